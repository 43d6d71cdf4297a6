\echo Use "CREATE EXTENSION eventsourcing" to load this file. \quit

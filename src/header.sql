/* The head of the install script. */

\echo Use "CREATE EXTENSION eventsourcing" to load this file. \quit

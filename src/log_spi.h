/*-------------------------------------------------------------------------
 *
 * log_spi.h
 *		The events table by way of saved plans, behind log.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ES_LOG_SPI_H
#define ES_LOG_SPI_H

#include "log.h"

extern EsTip es_log_spi_tip(EsStore *store, Datum stream);
extern int	es_log_spi_find_ids(EsStore *store, Datum stream, int nevents,
								const EsNewEvent *events, EsKnownId **known);
extern bool es_log_spi_insert(EsStore *store, Datum stream, const EsTip *tip,
							  TimestampTz recorded_at, int nevents,
							  const EsNewEvent *events, bool raise);
extern void es_log_spi_scan_stream(EsStore *store, Datum stream,
								   const EsStreamRange *range,
								   EsEventSink sink, void *arg);
extern void es_log_spi_scan_positions(EsStore *store, const EsPositionRange *range,
									  EsEventSink sink, void *arg);
extern int64 es_log_spi_stream_version(EsStore *store, Datum stream);
extern int64 es_log_spi_head(EsStore *store);

#endif							/* ES_LOG_SPI_H */

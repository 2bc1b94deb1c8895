//! Prices, usage, cost records, Parquet log, aggregates.

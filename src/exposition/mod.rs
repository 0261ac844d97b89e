//! From collectors to bytes for Prometheus: the writer, and the scrape with its deadline and its single flight.

pub mod scrape;
pub mod text;

pub use scrape::{Group, Member, Scraper, Selection};
pub use text::{Family, Writer};

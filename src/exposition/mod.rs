//! From collectors to bytes for Prometheus: the writer, the scrape with its deadline and its single flight, and the formats of the answer.

pub mod answer;
mod format;
pub mod merge;
pub mod openmetrics;
pub mod scrape;
pub mod text;

pub use answer::{Answer, Piece};
pub use format::{Format, format};
pub use scrape::{Group, Manner, Member, Scraper, Selection};
pub use text::{Family, Guests, Writer};

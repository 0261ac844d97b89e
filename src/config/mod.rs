//! Arguments, environment, file and secrets become one validated configuration.

mod flag;
mod settings;

pub use flag::{Flag, FlagKind};
pub use settings::Settings;

//! Arguments, environment, file and secrets become one validated configuration.

mod flag;
mod route;
mod settings;

pub use flag::{Flag, FlagKind};
pub use route::{Adapter, ElasticsearchSpec, FileSpec, Host, RouteSpec, Secret, split_list};
pub use settings::Settings;

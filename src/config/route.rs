//! Routes as URIs. (stand-in until the sinks land)
#[derive(Debug, Clone)]
pub struct RouteSpec {
    name: String,
}
impl RouteSpec {
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { name: text.to_owned() })
    }
    pub fn name(&self) -> &str {
        &self.name
    }
}
pub fn split_list(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

//! The value of a sample.

/// A number as its source gives it: whole numbers stay whole, so that no byte counter passes through a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number that is never negative.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A number with a fraction, `NaN` or an infinity.
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Unsigned(value as u64)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Unsigned(value.into())
    }
}

//! Bits in a row.

/// Bytes that are coded before they go on.
pub(crate) const CHUNK: usize = 1024;

/// Bits, the lowest first, as deflate has them.
pub(crate) struct Bits {
    pub(crate) out: Vec<u8>,
    /// What goes to `out` next. A store into it is one instruction, and the growth of a vector is not.
    chunk: [u8; CHUNK + 8],
    /// Whole bytes in it, less than [`CHUNK`].
    filled: usize,
    held: u64,
    /// Bits that are held, less than eight.
    count: u32,
}

impl Bits {
    /// Bits behind what is in `out`.
    pub(crate) const fn behind(out: Vec<u8>) -> Self {
        Self { out, chunk: [0; CHUNK + 8], filled: 0, held: 0, count: 0 }
    }

    /// Appends the lowest `count` bits, at most [`MOST_BITS`]; the others are 0.
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        self.run(|run| run.put(bits, count));
    }

    /// Appends many: what changes with each of them stays in registers.
    #[inline(always)]
    pub(crate) fn run(&mut self, write: impl FnOnce(&mut Run<'_>)) {
        let Self { out, chunk, filled, held, count } = self;
        let mut run = Run { out, chunk, filled: *filled, held: *held, count: *count };
        write(&mut run);
        (*filled, *held, *count) = (run.filled, run.held, run.count);
    }

    pub(crate) fn finish(&mut self) {
        turn(&mut self.out, &self.chunk, self.filled);
        self.filled = 0;
        self.out.extend(self.held.to_le_bytes().iter().take(self.count.div_ceil(8) as usize));
    }
}

/// [`Bits`] while they are written.
pub(crate) struct Run<'a> {
    out: &'a mut Vec<u8>,
    chunk: &'a mut [u8; CHUNK + 8],
    filled: usize,
    held: u64,
    count: u32,
}

impl Run<'_> {
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        if let Some(place) = self.chunk.get_mut(self.filled..).and_then(|rest| rest.first_chunk_mut()) {
            *place = self.held.to_le_bytes();
        }
        let whole = self.count & !7;
        self.filled += (whole >> 3) as usize;
        self.held >>= whole;
        self.count &= 7;
        if self.filled >= CHUNK {
            turn(self.out, self.chunk, self.filled);
            self.filled = 0;
        }
    }
}

#[inline(never)]
pub(crate) fn turn(out: &mut Vec<u8>, chunk: &[u8], filled: usize) {
    out.extend_from_slice(chunk.get(..filled).unwrap_or_default());
}

impl Default for Bits {
    fn default() -> Self {
        Self::behind(Vec::new())
    }
}

//! How an answer is coded: zstd, gzip or not at all, as the client asks (RFC 9110, 12.5.3). Coding a large answer takes milliseconds of a processor: gzip is coded
//! frame by frame as the client takes it, the others beside the sockets' workers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderMap};
use tokio::sync::Semaphore;

use super::gzip::Encoder;
use crate::exposition::{Answer, Format};
use crate::host::sys::give_back_heap;

/// Answers coded at one time: more would take processors from what the node is for.
static CODERS: Semaphore = Semaphore::const_new(2);
/// An answer up to this size is coded where it is: that takes a quarter of a millisecond, and handing it to another thread and back costs more than it spares.
const SMALL: usize = 128 << 10;

/// Bytes of an answer's text, with marks, from which on the heap's memory is given back behind it: that takes a tenth of a millisecond.
const LARGE: usize = 256 << 10;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Gzip,
    Identity,
}

impl Coding {
    /// In the order of preference, where a client has none: on 1.5 MB of containers' series zstd at level 1 takes 1.5 ms for 64 KB, gzip 2.4 ms for 138 KB.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Identity];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    /// What the client likes best of what there is here; `None` when it takes nothing of it.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let mut asked: Vec<(String, f64)> = Vec::new();
        for part in
            headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
        {
            let mut parameters = part.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let q = parameters.find_map(|parameter| parameter.strip_prefix("q=").or(parameter.strip_prefix("Q=")));
            // A weight that cannot be read asks for nothing.
            let q = q.map_or(1.0, |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
            if !name.is_empty() {
                asked.push((if name == "x-gzip" { "gzip".to_owned() } else { name }, q));
            }
        }
        let weight = |name: &str| asked.iter().find(|(asked, _)| asked == name).map(|(_, q)| *q);
        let mut best: Option<(Self, f64)> = None;
        for coding in Self::ALL {
            let q = match weight(coding.as_str()).or(weight("*")) {
                Some(q) => q,
                // Not coded is good unless it is refused, and less so than what was asked for.
                None if coding == Self::Identity => f64::MIN_POSITIVE,
                None => 0.0,
            };
            if q > best.map_or(0.0, |(_, best)| best) {
                best = Some((coding, q));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Puts an answer into `format` and codes it; `None` when that failed, which it does not but for a lack of memory.
    pub(super) async fn coded(self, format: Format, answer: Answer) -> Option<Body> {
        if self == Self::Identity && format == Format::Text && answer.sets.is_empty() {
            return Some(answer.text.into());
        }
        if answer.sets.is_empty() && answer.text.len() <= SMALL || self == Self::Gzip && format == Format::Text {
            return self.code(format, answer);
        }
        let Ok(permit) = CODERS.acquire().await else { return None };
        let coding = tokio::task::spawn_blocking(move || {
            let coded = self.code(format, answer);
            drop(permit);
            coded
        });
        coding.await.ok().flatten()
    }

    fn code(self, format: Format, answer: Answer) -> Option<Body> {
        // A format is a matter of lines and names: what stands between the braces stays as it is.
        let answer = Answer { text: format.encoded(answer.text), sets: answer.sets };
        match self {
            Self::Zstd => zstd(&answer.whole()).map(Body::from),
            Self::Gzip => Some(Body::gzipped(answer)),
            Self::Identity => Some(answer.whole().into()),
        }
    }
}

/// What is sent.
pub struct Body(Sent);

enum Sent {
    Whole(Option<Bytes>),
    /// A frame is coded when the connection can take it: what waits for a slow client is small.
    Gzip {
        first: Option<Bytes>,
        rest: Box<Encoder>,
    },
}

impl Body {
    /// What goes into one frame is sent with its length.
    fn gzipped(answer: Answer) -> Self {
        let mut encoder = Encoder::new(answer);
        match encoder.next() {
            Some(whole) if encoder.is_over() => whole.into(),
            first => Self(Sent::Gzip { first, rest: Box::new(encoder) }),
        }
    }
}

impl Drop for Body {
    /// Text and coder of a large answer are megabytes, of which nothing is needed until the next.
    fn drop(&mut self) {
        if matches!(&self.0, Sent::Gzip { rest, .. } if rest.length() >= LARGE) {
            self.0 = Sent::Whole(None);
            give_back_heap();
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Sent::Whole(Some(bytes)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.0 {
            Sent::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()),
            Sent::Gzip { first, rest } => first.take().or_else(|| rest.next()),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sent::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Sent::Gzip { first, rest } => first.is_none() && rest.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sent::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Sent::Gzip { .. } => SizeHint::default(),
        }
    }
}

/// Level 1, the only one that is built in. The window is what RFC 9659 allows, 8 MB, and level 1 stays far below.
fn zstd(body: &[u8]) -> Option<Bytes> {
    let mut context = zstd_safe::CCtx::try_create()?;
    context.set_parameter(zstd_safe::CParameter::CompressionLevel(1)).ok()?;
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(body.len()));
    context.compress2(&mut coded, body).ok()?;
    coded.shrink_to_fit();
    Some(Bytes::from(coded))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_client_decides() {
        let wanted = |values: &[&'static str]| {
            Coding::wanted(&values.iter().map(|value| (header::ACCEPT_ENCODING, HeaderValue::from_static(value))).collect())
        };
        for (value, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("br;q=1, GZIP;q=0.5", Some(Coding::Gzip)),
            ("zstd;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip;q=0", Some(Coding::Identity)),
            ("gzip;q=0.001", Some(Coding::Gzip)),
            ("gzip; q=0.5, identity", Some(Coding::Identity)),
            ("gzip;q=2", Some(Coding::Identity)),
            ("identity", Some(Coding::Identity)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Coding::Gzip)),
            ("*;q=0", None),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("identity;q=0", None),
            ("identity;q=0, br", None),
            ("identity;q=0, gzip;q=0.2", Some(Coding::Gzip)),
            ("br", Some(Coding::Identity)),
            ("", Some(Coding::Identity)),
        ] {
            assert_eq!(wanted(&[value]), expected, "{value}");
        }
        assert_eq!(wanted(&[]), Some(Coding::Identity));
        assert_eq!(wanted(&["br", "gzip"]), Some(Coding::Gzip));
    }

    async fn sent(body: Option<Body>) -> Bytes {
        body.unwrap().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn what_is_coded_is_what_it_was() {
        let body = Bytes::from("node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1\n".repeat(1000));
        let answer = Answer { text: body.clone(), sets: std::sync::Arc::default() };
        let gzipped = sent(Coding::Gzip.coded(Format::Text, answer.clone()).await).await;
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*gzipped), &mut plain).unwrap();
        assert_eq!(plain, body);
        // What does not become smaller, here and on another thread.
        for size in [0, 1, 100_000, SMALL + 1] {
            let noise: Vec<u8> =
                (0..size as u64).flat_map(|index| xxhash_rust::xxh3::xxh3_64(&index.to_le_bytes()).to_le_bytes()).take(size).collect();
            let noise = Answer { text: noise.into(), sets: std::sync::Arc::default() };
            let gzipped = sent(Coding::Gzip.coded(Format::Text, noise.clone()).await).await;
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*gzipped), &mut plain).unwrap();
            assert!(plain == noise.text, "{size}");
        }
        let coded = sent(Coding::Zstd.coded(Format::Text, answer).await).await;
        let mut plain = Vec::with_capacity(body.len());
        zstd_safe::decompress(&mut plain, &coded).unwrap();
        assert!(plain == body && coded.len() < 1000);
        assert_eq!(sent(Coding::Zstd.coded(Format::Text, Answer::default()).await).await[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    }
}

//! Passwords. bcrypt is slow by design, so it runs beside the sockets' workers, one at a time, and what it found is remembered; of a password only a keyed
//! digest stays.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use tokio::sync::Semaphore;

use crate::config::User;

/// Passwords that wait for their turn; one more is told to come again.
const WAITING: usize = 16;
/// Digests of right and of wrong passwords that are kept, each.
const KEPT: usize = 256;

type Digest = [u8; 32];

/// The users with their hashes.
pub(super) struct Users {
    hashes: HashMap<String, Arc<str>>,
    /// In order, to take one for a name that nobody has.
    all: Vec<Arc<str>>,
}

impl Users {
    pub(super) fn new(users: &[User]) -> Self {
        let hashes: HashMap<String, Arc<str>> = users.iter().map(|user| (user.name.clone(), Arc::from(&*user.hash))).collect();
        Self { all: users.iter().map(|user| Arc::from(&*user.hash)).collect(), hashes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// What was found of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Right,
    Wrong,
    /// Too many wait.
    Busy,
}

/// Digests of the passwords verified last, the oldest given up first.
#[derive(Default)]
struct Kept {
    digests: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Kept {
    fn add(&mut self, digest: Digest) {
        if !self.digests.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

/// Verifies passwords.
pub(super) struct Passwords {
    /// Made at the start and known to nobody: who cannot compute a digest learns nothing from how long its look-up takes.
    key: hmac::Key,
    /// Apart, so that guesses do not push out what is right.
    right: Mutex<Kept>,
    wrong: Mutex<Kept>,
    turn: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Passwords {
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new() -> Result<Self, String> {
        let key =
            hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).map_err(|_| "the system gives no random bytes")?;
        Ok(Self {
            key,
            right: Mutex::default(),
            wrong: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Whether the password is the user's. A name that nobody has takes as long as one that somebody has.
    pub(super) async fn verify(&self, users: &Users, name: &[u8], password: &[u8]) -> Found {
        let known = std::str::from_utf8(name).ok().and_then(|name| users.hashes.get(name));
        let hash = match known {
            Some(hash) => Arc::clone(hash),
            None => {
                // Always the same user's hash for one name, so that its cost does not betray it either.
                let pick =
                    self.digest(&[b"nobody", name]).iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
                match users.all.get(pick.checked_rem(users.all.len()).unwrap_or(0)) {
                    Some(hash) => Arc::clone(hash),
                    None => return Found::Wrong,
                }
            }
        };
        let is_known = known.is_some();
        let digest = self.digest(&[name, hash.as_bytes(), password]);
        if let Some(found) = self.kept(&digest) {
            return found;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Found::Busy };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return Found::Busy };
        // Another request with the same password may have been before this one.
        if let Some(found) = self.kept(&digest) {
            return found;
        }
        let password = password.to_vec();
        let verified = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, also when who asked has gone.
            let _turn = turn;
            bcrypt::verify(&password, &hash).unwrap_or(false)
        });
        let is_right = verified.await.unwrap_or(false) && is_known;
        let kept = if is_right { &self.right } else { &self.wrong };
        kept.lock().unwrap_or_else(PoisonError::into_inner).add(digest);
        if is_right { Found::Right } else { Found::Wrong }
    }

    fn kept(&self, digest: &Digest) -> Option<Found> {
        let has = |kept: &Mutex<Kept>| kept.lock().unwrap_or_else(PoisonError::into_inner).digests.contains(digest);
        match (has(&self.right), has(&self.wrong)) {
            (true, _) => Some(Found::Right),
            (_, true) => Some(Found::Wrong),
            _ => None,
        }
    }

    fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // With its length, so that no two lists of parts are alike.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut digest = Digest::default();
        for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let user = |name: &str, password: &str| User { name: name.to_owned(), hash: bcrypt::hash(password, 4).unwrap() };
        Users::new(&[user("alice", "geheim"), user("bob", "secret")])
    }

    #[tokio::test]
    async fn a_password_is_right_wrong_or_nobody_s() {
        let (users, passwords) = (users(), Passwords::new().unwrap());
        for _ in 0..2 {
            for (name, password, expected) in [
                ("alice", "geheim", Found::Right),
                ("bob", "secret", Found::Right),
                ("alice", "secret", Found::Wrong),
                ("alice", "", Found::Wrong),
                ("", "", Found::Wrong),
                ("carol", "geheim", Found::Wrong),
                ("carol", "secret", Found::Wrong),
            ] {
                assert_eq!(passwords.verify(&users, name.as_bytes(), password.as_bytes()).await, expected, "{name} {password}");
            }
        }
        assert_eq!(passwords.verify(&users, b"\xff", b"\xff\0").await, Found::Wrong);
    }

    #[tokio::test]
    async fn what_is_remembered_is_of_this_hash_only() {
        let passwords = Passwords::new().unwrap();
        assert_eq!(passwords.verify(&users(), b"alice", b"geheim").await, Found::Right);
        let other = Users::new(&[User { name: "alice".to_owned(), hash: bcrypt::hash("new", 4).unwrap() }]);
        assert_eq!(passwords.verify(&other, b"alice", b"geheim").await, Found::Wrong);
        assert_eq!(passwords.verify(&other, b"alice", b"new").await, Found::Right);
    }

    #[tokio::test]
    async fn guesses_are_bounded_and_do_not_push_out_what_is_right() {
        let (users, passwords) = (users(), Passwords::new().unwrap());
        assert_eq!(passwords.verify(&users, b"alice", b"geheim").await, Found::Right);
        let hold = Arc::clone(&passwords.turn).acquire_owned().await.unwrap();
        let guesses: Vec<Vec<u8>> = (0..WAITING).map(|number| number.to_string().into_bytes()).collect();
        let waiting = futures_util::future::join_all(guesses.iter().map(|guess| passwords.verify(&users, b"alice", guess)));
        let beyond = async {
            assert_eq!(passwords.verify(&users, b"alice", b"one more").await, Found::Busy);
            assert_eq!(passwords.verify(&users, b"alice", b"geheim").await, Found::Right, "what is known does not wait");
            drop(hold);
        };
        let (found, ()) = tokio::join!(waiting, beyond);
        assert!(found.iter().all(|found| *found == Found::Wrong));
        let mut kept = passwords.wrong.lock().unwrap();
        for number in 0..10 * KEPT {
            kept.add(passwords.digest(&[&number.to_le_bytes()]));
        }
        assert_eq!((kept.digests.len(), kept.order.len()), (KEPT, KEPT));
    }
}

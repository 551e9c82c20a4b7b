//! What a kernel is known by.
//!
//! Owns: [`Content`], [`KernelKey`]. Must not know: kernels. Invariant: two kernels of one key do the same, here and in another process; one that
//! exists only in this process has a key that says so.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::Kernel;

/// What tells a kernel from others of its type, name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: all of them do the same.
    Nothing,
    /// All that its results and its speed follow from, written out: which file it reads, which program it runs.
    Text(Cow<'static, str>),
    /// It exists only here: a closure, or state that is not written out. It is like no other.
    Local,
}

/// `name@version`, and for a kernel with a content `#` and what stands for that: `gemm@2`, `read@1#5be0cd19137e2179`, `mine@1#local2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct KernelKey(Arc<str>);

impl KernelKey {
    /// The key of a kernel; `local` tells apart those that exist only here.
    ///
    /// # Panics
    /// If the kernel does.
    #[must_use]
    pub fn new(kernel: &dyn Kernel, local: usize) -> Self {
        let (name, version) = (kernel.name(), kernel.version());
        Self(match kernel.content() {
            Content::Nothing => format!("{name}@{version}").into(),
            Content::Text(text) => format!("{name}@{version}#{:016x}", content_hash(text.as_bytes())).into(),
            Content::Local => format!("{name}@{version}#local{local}").into(),
        })
    }

    /// The key that is written so.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kernel's name and version.
    #[must_use]
    pub fn name_and_version(&self) -> &str {
        let end = self.0.rfind('#').filter(|&at| self.0[..at].contains('@'));
        &self.0[..end.unwrap_or(self.0.len())]
    }

    /// Whether it exists only here: then others may have its key in other graphs.
    pub(crate) fn is_local(&self) -> bool {
        self.0[self.name_and_version().len()..].starts_with("#local")
    }

    /// The kernel's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let all = self.name_and_version();
        &all[..all.rfind('@').unwrap_or(all.len())]
    }
}

impl fmt::Debug for KernelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KernelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A hash that is the same in every process and on every machine (FNV-1a, 64 bits). What is equal by it is compared in full where both are there.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> u64 {
    hash_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// [`content_hash`] of what `hash` is of, and these bytes after it.
pub(crate) fn hash_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_name_and_version() {
        for (text, both, name) in [
            ("gemm@2", "gemm@2", "gemm"),
            ("a::b@1#00ff", "a::b@1", "a::b"),
            ("map#5f3a@1#local2", "map#5f3a@1", "map#5f3a"),
            ("map#5f3a@1", "map#5f3a@1", "map#5f3a"),
        ] {
            let key = KernelKey::from_text(text);
            assert_eq!((key.name_and_version(), key.name()), (both, name), "{text}");
            assert_eq!(key.is_local(), text.contains("#local"));
        }
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(content_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(content_hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(hash_on(content_hash(b"foo"), b"bar"), content_hash(b"foobar"));
    }
}

//! The forms in which a value can lie.
//!
//! Owns: [`Form`]. Must not know: who wants which. Invariant: the bytes of one form follow from those of another by a copy.

/// How the bytes of an operand must lie. A value can be resident in several forms of one memory space; making one from
/// another is a copy that the scheduler orders once and accounts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Form {
    /// Strided or contiguous, wherever it lies: a window of a user's or result array, or a pooled buffer.
    Plain,
    /// Rearranged by the kernel that wants it (`Kernel::pack`); the number tells that kernel's layouts apart.
    Packed(u8),
}

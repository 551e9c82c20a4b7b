//! Newtypes for everything that has a number.
//!
//! Owns: the id types. Must not know: what the ids refer to. Invariant: an id is never used as another kind of id,
//! because each has its own type; all are dense indices into a table of their owner.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub $int);

        impl $name {
            /// The id as an index into its owner's table.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
            /// The id of entry `index` of its owner's table.
            ///
            /// # Panics
            /// If the table has outgrown the id's integer, which the builders refuse beforehand.
            #[must_use]
            pub fn at(index: usize) -> Self {
                Self(<$int>::try_from(index).expect(concat!("too many ", stringify!($name), "s")))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

ids! {
    /// A device of the session: something that executes tasks.
    DeviceId(u16), "device ";
    /// A memory space: where bytes live. Devices may share one.
    SpaceId(u16), "space ";
    /// A kernel interned in one task graph.
    KernelId(u32), "kernel ";
    /// A submitted task graph.
    GraphId(u32), "graph ";
    /// A group: one array operation over a chunk grid, a range of tasks.
    GroupId(u32), "group ";
    /// A task of one graph.
    TaskId(u32), "task ";
    /// A chunk value of one graph; written once.
    ValueId(u32), "value ";
    /// A view of values of one graph.
    ViewId(u32), "view ";
    /// A form of values of one graph: 0 is plain and whole.
    FormId(u16), "form ";
    /// What tasks of one graph that cost the same have in common.
    ProfileId(u32), "profile ";
    /// A whole host array of one graph: caller's data or a result.
    ArrayId(u32), "array ";
    /// A pooled buffer slot handed out by the scheduler.
    BufferId(u32), "buffer ";
    /// One run of a task on a device; a task that is rerun has several.
    LaunchId(u64), "launch ";
    /// One move of a value between memory spaces, or into another form.
    CopyId(u64), "copy ";
}

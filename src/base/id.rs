//! Numbers that stand for things with names.
//!
//! An id is a dense slot number: small enough to index an array with. Control gives it out by name, so it stays the
//! same for as long as the thing of that name exists, also over a reload; a slot is given out anew only when nothing
//! refers to it any more.
//!
//! An id means nothing in another process, and nothing may be kept by id across a restart; names are for that.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u32);

        impl $name {
            /// The slot as an array index.
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A listener: one `[listeners.NAME]`, however many addresses it binds.
    ListenerId
);
id!(
    /// A way that sessions go: from a listener to a pool.
    RouteId
);
id!(
    /// A split of the sessions of a listener, or of one of its routes, among pools.
    SplitId
);
id!(
    /// A pool: one `[pools.NAME]`.
    PoolId
);
id!(
    /// A backend. Unique over all pools, not within one.
    BackendId
);

//! What workers know: an immutable table behind one published pointer.
//!
//! Control builds a [`Table`](table::Table) and publishes it through a [`Cell`](cell::Cell); a worker pins it for one
//! turn of its loop. A table is published as a whole or not at all. It holds no descriptor, no lock and no reference to
//! anything mutable, so it can be freed at any time when no reader sees it.

pub mod build;
pub mod cell;
pub mod explain;
pub mod ids;
pub mod table;

//! What workers may know: an immutable table behind one published pointer.
//!
//! Control builds a [`Table`](table::Table) and publishes it through a [`Cell`](cell::Cell); a worker pins it for one
//! turn of its loop. A table is published whole or not at all.

pub mod build;
pub mod cell;
pub mod explain;
pub mod ids;
pub mod table;

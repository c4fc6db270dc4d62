//! The servers that the tests of sources use too.
#![allow(dead_code, reason = "each file has what the tests of one source need, and these need less")]

#[path = "../../../src/discover/kubernetes/testing/api.rs"]
pub mod api;
#[path = "../../../src/discover/http/testing/stub.rs"]
pub mod stub;

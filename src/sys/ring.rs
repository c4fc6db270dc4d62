//! Rings that a library has made: finding them, and restricting what can be done with them.
//!
//! System call filters do not see what goes through a ring, so a ring that may do everything is a way past them: it
//! could open files and make sockets of any kind.

use std::collections::BTreeSet;
use std::io;

/// Which kind of restriction (io_uring_register(2), IORING_REGISTER_RESTRICTIONS).
const RESTRICTION_SQE_OP: u16 = 1;
/// IORING_REGISTER_RESTRICTIONS (Linux 5.10).
const REGISTER_RESTRICTIONS: libc::c_uint = 11;
/// IORING_REGISTER_ENABLE_RINGS (Linux 5.10).
const REGISTER_ENABLE_RINGS: libc::c_uint = 12;

/// `struct io_uring_restriction`
#[repr(C)]
struct Restriction {
    /// What is restricted; here operations.
    kind: u16,
    /// The operation that is allowed.
    operation: u8,
    /// Must be 0.
    reserved: [u8; 13],
}

/// Descriptors of this process that are rings with so many entries.
pub fn all(entries: u32) -> BTreeSet<i32> {
    let is_ring = |fd: &i32| {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let info = || std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let mask = format!("SqMask:\t0x{:x}", entries - 1);
        link.is_ok_and(|link| link.to_string_lossy() == "anon_inode:[io_uring]")
            && info().lines().any(|line| line == mask)
    };
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ring).collect()
}

/// Opens a ring, made with IORING_SETUP_R_DISABLED, for these operations and for nothing else, for as long as it lives.
///
/// # Errors
/// It is no such ring. Then it is as it was.
pub fn enable(fd: i32, operations: &[u8]) -> io::Result<()> {
    let restriction = |&operation| Restriction { kind: RESTRICTION_SQE_OP, operation, reserved: [0; 13] };
    let all: Vec<Restriction> = operations.iter().map(restriction).collect();
    // SAFETY: the kernel reads so many restrictions during the call.
    let restricted = unsafe {
        libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RESTRICTIONS, all.as_ptr(), all.len() as libc::c_uint)
    };
    if restricted < 0 {
        return Err(io::Error::last_os_error());
    }
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: no memory is passed.
    let enabled = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_ENABLE_RINGS, none, 0) };
    if enabled < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

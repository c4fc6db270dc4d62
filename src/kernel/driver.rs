//! Which implementation of [`Kernel`](super::Kernel) serves.

/// What the data plane runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// io_uring, from Linux 6.1 on, where this process may use it.
    IoUring,
    /// epoll, from Linux 5.4 on.
    Epoll,
}

impl Driver {
    /// As in `process.io`, the API and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }

    /// The driver of that name.
    pub fn of_name(name: &str) -> Option<Driver> {
        [Driver::IoUring, Driver::Epoll].into_iter().find(|driver| driver.name() == name)
    }
}

/// What was chosen for a process, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChosenDriver {
    /// What the workers and control run on.
    pub driver: Driver,
    /// One line.
    pub reason: String,
}

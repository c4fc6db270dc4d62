//! Child processes: started, watched, ended.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{PATIENCE, wait_for};

/// A process that is killed when it is dropped, with what it has written.
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
}

/// What a process came to that ended by itself.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Keeps both outputs in one text.
    pub fn start(command: &mut Command) -> Process {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), output.clone());
        collect(child.stderr.take().unwrap(), output.clone());
        Process { child, output }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Everything it has written, once it has written nothing for a while: lines come a little after what they speak
    /// of.
    pub fn settled_output(&self) -> String {
        let mut before = self.output();
        wait_for(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.output();
            std::mem::replace(&mut before, now) == before
        });
        before
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain call; the process was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Stops it (SIGSTOP), which takes effect on each thread a moment after the signal.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let tasks = || std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        super::wait_until("every thread stands still", || tasks().all(is_stopped));
    }

    /// Waits for its end; `None` if it goes on.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_for(limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// The limit under which it can open exactly `more` descriptors.
    pub fn descriptor_limit_for(&self, more: usize) -> u64 {
        let open = || {
            let entries = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().flatten();
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<BTreeSet<u64>>()
        };
        // Connections to the admin server are closed a little after their answer.
        let mut numbers = open();
        wait_for(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut numbers, open());
            before == numbers
        });
        (0..).filter(|number| !numbers.contains(number)).nth(more).unwrap()
    }

    /// Resident memory, in bytes, of its own and shared.
    pub fn resident_bytes(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The port of its IPv6 listener, which the kernel chose.
    pub fn listening_port_v6(&self) -> u16 {
        let folder = format!("/proc/{}", self.id());
        let descriptors = std::fs::read_dir(format!("{folder}/fd")).unwrap().flatten();
        let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let inodes: Vec<String> = links.map(|link| link.display().to_string()).collect();
        let table = std::fs::read_to_string(format!("{folder}/net/tcp6")).unwrap();
        let port = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_ours = inodes.contains(&format!("socket:[{}]", fields[9]));
            let port = fields[1].rsplit_once(':').unwrap().1;
            (fields[3] == "0A" && is_ours).then(|| u16::from_str_radix(port, 16).unwrap())
        };
        table.lines().skip(1).find_map(port).expect("an IPv6 listener")
    }

    /// CPU time it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Names of its threads, also of those the kernel made.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.map(|name| name.trim().to_string()).collect()
    }

    /// How long threads whose names begin so have run, in nanoseconds.
    pub fn busy_ns_of(&self, prefix: &str) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let read = |task: &std::fs::DirEntry, file: &str| std::fs::read_to_string(task.path().join(file)).ok();
        let named = tasks.filter(|task| read(task, "comm").is_some_and(|name| name.starts_with(prefix)));
        named.filter_map(|task| read(&task, "schedstat")?.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// How often the thread of that name has gone to sleep so far.
    pub fn sleeps(&self, thread: &str) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        let field = |status: &str, name: &str| {
            status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_string())).unwrap_or_default()
        };
        let mut named = statuses.filter(|status| field(status, "Name:") == thread);
        field(&named.next().expect("a thread of that name"), "voluntary_ctxt_switches:").parse().unwrap()
    }

    /// Number of the thread of that name.
    pub fn thread(&self, name: &str) -> u32 {
        let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap().flatten();
        let comm = |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let task = tasks.find(|task| comm(task).trim() == name).expect("a thread of that name");
        task.file_name().to_str().unwrap().parse().unwrap()
    }

    /// System calls of the thread of that name that have read something so far; those through a ring are none.
    pub fn reads(&self, thread: &str) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/task/{}/io", self.id(), self.thread(thread))).unwrap();
        io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
    }

    /// Sets the number of descriptors it may have, and returns the one before.
    pub fn limit_descriptors(&self, soft: u64) -> u64 {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one rlimit.
        let read = unsafe { libc::prlimit(self.id() as i32, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
        let new = libc::rlimit { rlim_cur: soft, rlim_max: before.rlim_max };
        // SAFETY: the kernel reads one rlimit.
        let set = unsafe { libc::prlimit(self.id() as i32, libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut()) };
        assert_eq!((read, set), (0, 0));
        before.rlim_cur
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(String::new())));
    let readers =
        [collect(child.stdout.take().unwrap(), stdout.clone()), collect(child.stderr.take().unwrap(), stderr.clone())];
    let mut status = None;
    wait_for(3 * PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} does not end: {}{}", stdout.lock().unwrap(), stderr.lock().unwrap());
    };
    for reader in readers {
        reader.join().unwrap();
    }
    let text = |text: Arc<Mutex<String>>| text.lock().unwrap().clone();
    Ended { status, stdout: text(stdout), stderr: text(stderr) }
}

fn collect(from: impl Read + Send + 'static, to: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut text = to.lock().unwrap();
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    })
}

/// A program of the system, by its path; a failure that names the package if it is not there. `None` if tests that
/// need programs are not wanted.
pub fn program(paths: &[&str], package: &str) -> Option<String> {
    if let Some(found) = paths.iter().find(|path| Path::new(path).exists()) {
        return Some(found.to_string());
    }
    if std::env::var_os("RINGWAY_TEST_WITHOUT_PROGRAMS").is_some() {
        eprintln!("skipped: {} is not installed, and RINGWAY_TEST_WITHOUT_PROGRAMS is set", paths[0]);
        return None;
    }
    panic!("{} is missing: `apt-get install {package}`, or set RINGWAY_TEST_WITHOUT_PROGRAMS", paths[0]);
}

/// Lets the test itself have so many descriptors.
pub fn raise_descriptors(at_least: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    assert!(limit.rlim_max >= at_least, "the hard limit of descriptors must be {at_least} or more (`ulimit -Hn`)");
    limit.rlim_cur = limit.rlim_cur.max(at_least);
    // SAFETY: the kernel reads one rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Has a command be refused io_uring with that errno, by a filter with one rule.
pub fn forbid_io_uring(command: &mut Command, errno: i32) {
    // SAFETY: prctl may be called between fork and exec.
    unsafe { command.pre_exec(move || filter_io_uring(errno as u32)) };
}

/// Has this command find the value in `file` as `kernel.io_uring_disabled`, in a mount namespace of its own: the sysctl
/// itself is one for the whole host. Takes root.
pub fn show_io_uring_disabled(command: &mut Command, file: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt;
    let file = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    let mount = move |from: &std::ffi::CStr, to: &std::ffi::CStr, flags| {
        // SAFETY: both are strings, and a bind mount has neither a type nor data.
        let mounted = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), flags, std::ptr::null()) };
        if mounted == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let show = move || {
        // SAFETY: a plain call.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
        mount(&file, c"/proc/sys/kernel/io_uring_disabled", libc::MS_BIND)
    };
    // SAFETY: unshare and mount may be called between fork and exec.
    unsafe { command.pre_exec(show) };
}

fn filter_io_uring(errno: u32) -> std::io::Result<()> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let rule = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut rules = [
        rule(LOAD_WORD, 0, 0, 0),
        rule(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        rule(RETURN, 0, 0, ERRNO | errno),
        rule(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: rules.as_mut_ptr() };
    // SAFETY: a plain call.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel copies the program during the call.
    let filter = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if (privileges, filter) == (0, 0) { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

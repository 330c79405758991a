//! System calls that nothing inside may make. In: the kind of run. Out: a filter that fails them with EPERM (ENOSYS where
//! programs have a way around). Namespaces and dropped rights already stop most of them; this is the second wall.

use crate::spec::Kind;
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data` (seccomp(2)); arguments are 64 bits, little endian, low word first.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENT: [u32; 3] = [16, 24, 32];

const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const NO_FAMILY: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32
    | 0x80; // CLONE_NEWTIME

/// Never allowed.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    libc::SYS_userfaultfd,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];
/// Not there, so that programs fall back: their flags cannot be looked into, or their surface is large.
const ABSENT: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
/// Denied to instances; jobs may trace their own processes.
const TRACING: &[libc::c_long] = &[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev];
/// Socket families that namespaces confine. AF_VSOCK, above all, leads to the hypervisor.
const FAMILIES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The filter for a kind of run.
pub fn filter(kind: Kind) -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS), // another instruction set has other numbers
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([jump(BPF_JSET, 0x4000_0000, 0, 1), give(MISSING)]); // x32
    for number in DENIED {
        deny(&mut program, *number, DENY);
    }
    for number in ABSENT {
        deny(&mut program, *number, MISSING);
    }
    if kind == Kind::Instance {
        for number in TRACING {
            deny(&mut program, *number, DENY);
        }
    }
    when_flag(&mut program, libc::SYS_clone, 0, NEW_NAMESPACES);
    when_flag(&mut program, libc::SYS_unshare, 0, NEW_NAMESPACES);
    no_device_nodes(&mut program, libc::SYS_mknodat, 2);
    #[cfg(target_arch = "x86_64")]
    no_device_nodes(&mut program, libc::SYS_mknod, 1);
    no_terminal_input(&mut program);
    families(&mut program, libc::SYS_socket);
    families(&mut program, libc::SYS_socketpair);
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn jump(kind: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | kind | BPF_K) as u16, jt: yes, jf: no, k }
}

fn give(verdict: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, verdict)
}

fn deny(program: &mut Vec<sock_filter>, number: libc::c_long, verdict: u32) {
    program.extend([jump(BPF_JEQ, number as u32, 0, 1), give(verdict)]);
}

/// Denies a call when any bit of `flags` is set in an argument. Each block ends with the number loaded again.
fn when_flag(program: &mut Vec<sock_filter>, number: libc::c_long, argument: usize, flags: u32) {
    program.extend([
        jump(BPF_JEQ, number as u32, 0, 4),
        load(ARGUMENT[argument]),
        jump(BPF_JSET, flags, 0, 1),
        give(DENY),
        load(NUMBER),
    ]);
}

fn no_device_nodes(program: &mut Vec<sock_filter>, number: libc::c_long, argument: usize) {
    program.extend([
        jump(BPF_JEQ, number as u32, 0, 6),
        load(ARGUMENT[argument]),
        statement(BPF_ALU | BPF_AND | BPF_K, libc::S_IFMT),
        jump(BPF_JEQ, libc::S_IFCHR, 1, 0),
        jump(BPF_JEQ, libc::S_IFBLK, 0, 1),
        give(DENY),
        load(NUMBER),
    ]);
}

fn no_terminal_input(program: &mut Vec<sock_filter>) {
    program.extend([
        jump(BPF_JEQ, libc::SYS_ioctl as u32, 0, 5),
        load(ARGUMENT[1]),
        jump(BPF_JEQ, libc::TIOCSTI as u32, 1, 0),
        jump(BPF_JEQ, libc::TIOCLINUX as u32, 0, 1),
        give(DENY),
        load(NUMBER),
    ]);
}

fn families(program: &mut Vec<sock_filter>, number: libc::c_long) {
    let count = FAMILIES.len() as u8;
    program.extend([jump(BPF_JEQ, number as u32, 0, count + 3), load(ARGUMENT[0])]);
    for (n, family) in FAMILIES.iter().enumerate() {
        program.push(jump(BPF_JEQ, *family as u32, count - n as u8, 0));
    }
    program.extend([give(NO_FAMILY), load(NUMBER)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(program: &[sock_filter], data: &[u32]) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let op = &program[at];
            let code = u32::from(op.code);
            at += 1;
            match code {
                c if c == BPF_LD | BPF_W | BPF_ABS => a = data[op.k as usize / 4],
                c if c == BPF_ALU | BPF_AND | BPF_K => a &= op.k,
                c if c == BPF_RET | BPF_K => return op.k,
                c => {
                    let yes = if c == BPF_JMP | BPF_JEQ | BPF_K { a == op.k } else { a & op.k != 0 };
                    at += usize::from(if yes { op.jt } else { op.jf });
                }
            }
        }
    }

    fn call(kind: Kind, number: libc::c_long, arguments: [u32; 3]) -> u32 {
        let [a, b, c] = arguments;
        verdict(&filter(kind), &[number as u32, ARCHITECTURE, 0, 0, a, 0, b, 0, c, 0])
    }

    #[test]
    fn the_filter_denies_what_it_should_and_nothing_else() {
        let allow = libc::SECCOMP_RET_ALLOW;
        let job = Kind::Job;
        assert_eq!(call(job, libc::SYS_mount, [0; 3]), DENY);
        assert_eq!(call(job, libc::SYS_clone3, [0; 3]), MISSING);
        assert_eq!(call(job, libc::SYS_read, [0; 3]), allow);
        assert_eq!(call(job, libc::SYS_clone, [libc::SIGCHLD as u32, 0, 0]), allow);
        assert_eq!(call(job, libc::SYS_clone, [libc::CLONE_NEWUSER as u32, 0, 0]), DENY);
        assert_eq!(call(job, libc::SYS_unshare, [libc::CLONE_FILES as u32, 0, 0]), allow);
        assert_eq!(call(job, libc::SYS_unshare, [libc::CLONE_NEWNS as u32, 0, 0]), DENY);
        assert_eq!(call(job, libc::SYS_mknodat, [0, 0, libc::S_IFCHR | 0o600]), DENY);
        assert_eq!(call(job, libc::SYS_mknodat, [0, 0, libc::S_IFBLK | 0o600]), DENY);
        assert_eq!(call(job, libc::SYS_mknodat, [0, 0, libc::S_IFIFO | 0o600]), allow);
        assert_eq!(call(job, libc::SYS_ioctl, [0, libc::TIOCSTI as u32, 0]), DENY);
        assert_eq!(call(job, libc::SYS_ioctl, [0, libc::TIOCGWINSZ as u32, 0]), allow);
        assert_eq!(call(job, libc::SYS_socket, [libc::AF_VSOCK as u32, 0, 0]), NO_FAMILY);
        assert_eq!(call(job, libc::SYS_socketpair, [libc::AF_NETLINK as u32, 0, 0]), allow);
        for family in FAMILIES {
            assert_eq!(call(job, libc::SYS_socket, [*family as u32, 1, 0]), allow);
        }
        assert_eq!(call(job, libc::SYS_ptrace, [0; 3]), allow);
        assert_eq!(call(Kind::Instance, libc::SYS_ptrace, [0; 3]), DENY);
        let foreign = verdict(&filter(job), &[0, 0x4000_0003, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
    }
}

/* Tries one thing that a sandbox must not allow; says `ok` or the error. Run inside by escapes.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int say(long result) {
    printf("%s\n", result < 0 ? strerrorname_np(errno) : "ok");
    return 0;
}

static long abstract_connect(const char *name) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path + 1, name);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static long tcp_connect(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a);
}

static long tcp_listen(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    return bind(s, (void *)&a, sizeof a) < 0 ? -1 : listen(s, 1);
}

/* Until it fails or `most` was reached; the processes wait to be killed. */
static int fork_bomb(int most) {
    int n = 0;
    for (; n < most; n++) {
        pid_t pid = fork();
        if (pid < 0) break;
        if (pid == 0) for (;;) pause();
    }
    printf("%d\n", n);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *with = argc > 2 ? argv[2] : "";
    int number = atoi(with);
    setbuf(stdout, NULL);
    if (!strcmp(what, "mount")) return say(mount("none", "/tmp", "tmpfs", 0, NULL));
    if (!strcmp(what, "fsopen")) return say(syscall(SYS_fsopen, "tmpfs", 0));
    if (!strcmp(what, "umount")) return say(umount2("/proc/kcore", MNT_DETACH));
    if (!strcmp(what, "unshare-user")) return say(unshare(CLONE_NEWUSER));
    if (!strcmp(what, "unshare-mount")) return say(unshare(CLONE_NEWNS));
    if (!strcmp(what, "clone-user")) return say(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    if (!strcmp(what, "clone3")) return say(syscall(SYS_clone3, NULL, 0));
    if (!strcmp(what, "setns")) return say(setns(open("/proc/self/ns/mnt", O_RDONLY), 0));
    if (!strcmp(what, "ptrace")) return say(ptrace(PTRACE_ATTACH, number, 0, 0));
    if (!strcmp(what, "mknod")) return say(mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)));
    if (!strcmp(what, "mknod-char")) return say(mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)));
    if (!strcmp(what, "handle")) return say(syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0));
    if (!strcmp(what, "keyctl")) return say(syscall(SYS_keyctl, 0, -3, 1));
    if (!strcmp(what, "bpf")) return say(syscall(SYS_bpf, 0, NULL, 0));
    if (!strcmp(what, "reboot")) return say(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL));
    if (!strcmp(what, "module")) return say(syscall(SYS_init_module, NULL, 0, ""));
    if (!strcmp(what, "vsock")) return say(socket(40, SOCK_STREAM, 0));
    if (!strcmp(what, "packet")) return say(socket(AF_PACKET, SOCK_RAW, 0));
    if (!strcmp(what, "tiocsti")) return say(ioctl(0, TIOCSTI, "x"));
    if (!strcmp(what, "chown-away")) return say(chown("/tmp", 100000, 100000));
    if (!strcmp(what, "raise-limit")) { struct rlimit l = {1 << 20, 1 << 20}; return say(setrlimit(RLIMIT_CORE, &l)); }
    if (!strcmp(what, "setuid")) { printf("euid %d\n", geteuid()); return 0; }
    if (!strcmp(what, "abstract")) return say(abstract_connect(with));
    if (!strcmp(what, "connect")) return say(tcp_connect(number));
    if (!strcmp(what, "listen")) { say(tcp_listen(number)); pause(); }
    if (!strcmp(what, "bomb")) return fork_bomb(number);
    return 2;
}

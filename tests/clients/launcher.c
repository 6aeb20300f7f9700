/*
 * Starts a program under conditions that a test asks for:
 *   launcher [--deny-io-uring ERRNO] [--memlock BYTES] [--memlock-now BYTES] [--files N] [--cpu N]
 *            [--user UID] PROGRAM ...
 *
 * --memlock sets both limits on locked memory, --memlock-now only the one that may be raised again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what)
{
    fprintf(stderr, "launcher: %s: %s\n", what, strerror(errno));
    exit(99);
}

static void deny_io_uring(unsigned int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof code[0], code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("affinity");
}

int main(int argc, char **argv)
{
    int at = 1;

    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        long value = strtol(argv[at + 1], NULL, 10);

        if (strcmp(argv[at], "--deny-io-uring") == 0) {
            deny_io_uring((unsigned int)value);
        } else if (strcmp(argv[at], "--memlock") == 0) {
            struct rlimit limit = { (rlim_t)value, (rlim_t)value };

            if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
                fail("memlock");
        } else if (strcmp(argv[at], "--memlock-now") == 0) {
            struct rlimit limit;

            if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
                fail("memlock");
            limit.rlim_cur = (rlim_t)value;
            if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
                fail("memlock");
        } else if (strcmp(argv[at], "--files") == 0) {
            struct rlimit limit = { (rlim_t)value, (rlim_t)value };

            if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
                fail("files");
        } else if (strcmp(argv[at], "--cpu") == 0) {
            pin((int)value);
        } else if (strcmp(argv[at], "--user") == 0) {
            if (setgid((gid_t)value) != 0 || setuid((uid_t)value) != 0)
                fail("user");
        } else {
            errno = EINVAL;
            fail(argv[at]);
        }
    }
    if (at >= argc) {
        errno = EINVAL;
        fail("no program");
    }
    execv(argv[at], argv + at);
    fail(argv[at]);
}

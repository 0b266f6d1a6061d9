// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The system calls of a VMM's threads, each with what it is for.
 *
 * Nothing here opens, connects or starts anything but for TO_MAIN, TO_NET and, where native user code is on, the traced
 * processes that it consists of: they begin under their vCPU's filter and then take one of their own that leaves three calls.
 * Memory that is executable is mapped before a thread is confined, once for writing and once for execution.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/confine.h"
#include "base/confine_list.h"

/* Requests of a driver have its letter in bits 8 to 15. */
#define IOCTL_OF(letter) .when = { { 1, 0xff00, (uint64_t)(letter) << 8 } }, .n_when = 1
#define ARG_IS(n, v) .when = { { n, UINT32_MAX, (uint32_t)(v) } }, .n_when = 1
#define NO_BITS(n, bits) .when = { { n, bits, 0 } }, .n_when = 1
#define ALL_64 UINT64_MAX
#define KVM_LETTER 0xae
#define BLK_LETTER 0x12

/* As the C library begins a thread: no process, no namespace. */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define CALL(name) .nr = SCMP_SYS(name)

const struct confine_rule confine_rules[] = {
	/* Waiting, and waking others: the most frequent ones. */
	{ CALL(futex), TO_ALL },			/* locks, conditions */
	{ CALL(epoll_wait), TO_ALL },			/* each loop's turn */
	{ CALL(epoll_pwait), TO_ALL },
	{ CALL(epoll_pwait2), TO_ALL },			/* the same with nanoseconds */
	{ CALL(poll), TO_ALL },
	{ CALL(ppoll), TO_ALL },
	{ CALL(read), TO_ALL },				/* eventfds, timers, terminals, sockets, files that are open */
	{ CALL(write), TO_ALL },
	{ CALL(epoll_ctl), TO_ALL },			/* what a loop watches */
	{ CALL(timerfd_settime), TO_ALL },
	{ CALL(timerfd_gettime), TO_ALL },
	{ CALL(clock_gettime), TO_ALL },		/* where the vDSO cannot answer */
	{ CALL(clock_getres), TO_ALL },
	{ CALL(gettimeofday), TO_ALL },
	{ CALL(time), TO_ALL },
	{ CALL(clock_nanosleep), TO_ALL },
	{ CALL(nanosleep), TO_ALL },
	{ CALL(sched_yield), TO_ALL },
	{ CALL(getcpu), TO_ALL },
	{ CALL(restart_syscall), TO_ALL },		/* the kernel's own, after SIGCONT */

	/* Data of files, devices and connections that are open. */
	{ CALL(readv), TO_ALL },
	{ CALL(writev), TO_ALL },
	{ CALL(pread64), TO_ALL },
	{ CALL(pwrite64), TO_ALL },
	{ CALL(preadv), TO_ALL },
	{ CALL(pwritev), TO_ALL },
	{ CALL(preadv2), TO_ALL },			/* with RWF_DSYNC, RWF_NOWAIT */
	{ CALL(pwritev2), TO_ALL },
	{ CALL(io_uring_enter), TO_DATA },		/* rings are made, and restricted, by the main thread */
	{ CALL(io_uring_register), TO_DATA, ARG_IS(1, 6 /* IORING_REGISTER_FILES_UPDATE */) },	/* a disk was opened once more */
	{ CALL(fsync), TO_ALL },
	{ CALL(fdatasync), TO_ALL },
	{ CALL(sync_file_range), TO_DATA },
	{ CALL(fallocate), TO_DATA },			/* discards, zeroes, room ahead */
	{ CALL(ftruncate), TO_DATA },			/* images that grow */
	{ CALL(lseek), TO_ALL },			/* SEEK_DATA, SEEK_HOLE */
	{ CALL(fadvise64), TO_DATA },
	{ CALL(copy_file_range), TO_DATA },
	{ CALL(fstat), TO_ALL },
	{ CALL(newfstatat), TO_ALL },			/* the C library's fstat; names can be asked about, not opened */
	{ CALL(readlink), TO_DATA },			/* realpath, of a backing file's name */
	{ CALL(getcwd), TO_DATA },
	{ CALL(fcntl), TO_ALL },			/* image locks, flags, sizes of pipes */
	{ CALL(flock), TO_DATA },
	{ CALL(ioctl), TO_ALL, IOCTL_OF(BLK_LETTER) },	/* BLKDISCARD, BLKZEROOUT, sizes */
	{ CALL(ioctl), TO_ALL, ARG_IS(1, TCGETS) },	/* is the terminal raw? */
	{ CALL(ioctl), TO_ALL, ARG_IS(1, TCSETS) },	/* as it was, before a crash */
	{ CALL(ioctl), TO_ALL, ARG_IS(1, TIOCOUTQ) },	/* how much of it is waiting */
	{ CALL(ioctl), TO_ALL, ARG_IS(1, FIONREAD) },
	{ CALL(ioctl), TO_DATA, ARG_IS(1, TUNSETOFFLOAD) },	/* a guest's driver says what it takes */
	{ CALL(ioctl), TO_DATA, ARG_IS(1, TUNSETQUEUE) },
	{ CALL(ioctl), TO_VCPU, IOCTL_OF(KVM_LETTER) },	/* KVM_RUN and what belongs to it */
	/* KVM: whoever completes a request raises its interrupt, and a viewer's thread asks what was drawn. */
	{ CALL(ioctl), TO_ALL, ARG_IS(1, 0x4008ae61 /* KVM_IRQ_LINE */) },
	{ CALL(ioctl), TO_ALL, ARG_IS(1, 0x4020aea5 /* KVM_SIGNAL_MSI */) },
	{ CALL(ioctl), TO_ALL, ARG_IS(1, 0x4010ae42 /* KVM_GET_DIRTY_LOG */) },
	{ CALL(ioctl), TO_ALL, ARG_IS(1, 0x4020ae46 /* KVM_SET_USER_MEMORY_REGION */) },	/* the log goes on or off */
	{ CALL(tgkill), TO_ALL, ARG_IS(2, 37 /* SIGRTMIN + 3 */) },	/* a vCPU is to come out of KVM_RUN */
	{ CALL(recvmsg), TO_ALL },
	{ CALL(recvfrom), TO_ALL },
	{ CALL(sendmsg), TO_ALL, .when = { { 2, UINT32_MAX & ~0x4040u, 0 } }, .n_when = 1 },	/* MSG_DONTWAIT, MSG_NOSIGNAL */
	{ CALL(sendmsg), TO_NET },			/* the resolver's, with MSG_FASTOPEN and the like */
	{ CALL(sendto), TO_ALL, .when = { { 4, ALL_64, 0 } }, .n_when = 1 },	/* without an address: connections that stand */
	{ CALL(shutdown), TO_ALL },
	{ CALL(getsockopt), TO_ALL },
	{ CALL(setsockopt), TO_ALL },
	{ CALL(getsockname), TO_ALL },
	{ CALL(getpeername), TO_ALL },
	{ CALL(close), TO_ALL },
	{ CALL(eventfd2), TO_ALL },			/* of requests that wait for one another */
	{ CALL(dup), TO_ALL },
	{ CALL(accept4), TO_SCREEN | TO_PEER },		/* a viewer comes, a vhost-user peer */
	{ CALL(accept), TO_SCREEN },

	/* Memory, none of it executable, all of it the process's own or of a file that is open. */
	{ CALL(mmap), TO_ALL, NO_BITS(2, PROT_EXEC) },
	{ CALL(mprotect), TO_ALL, NO_BITS(2, PROT_EXEC) },
	{ CALL(munmap), TO_ALL },
	{ CALL(mremap), TO_ALL },
	{ CALL(madvise), TO_ALL },			/* stacks of ended threads, guest memory given back */
	{ CALL(brk), TO_ALL },
	{ CALL(mlock), TO_ALL },			/* keys */
	{ CALL(mlock2), TO_ALL },
	{ CALL(munlock), TO_ALL },
	{ CALL(msync), TO_DATA },
	{ CALL(mincore), TO_DATA },
	{ CALL(getrandom), TO_ALL },			/* nonces, virtio-rng */
	{ CALL(membarrier), TO_ALL },			/* code that was changed */

	/* Threads of this process: they have the filter of the one that begins them. */
	{ CALL(clone), TO_ALL, .when = { { 0, UINT32_MAX, THREAD_FLAGS } }, .n_when = 1 },
	{ CALL(set_robust_list), TO_ALL },
	{ CALL(rseq), TO_ALL },
	{ CALL(prctl), TO_ALL, ARG_IS(0, PR_SET_NAME) },
	{ CALL(prctl), TO_ALL, ARG_IS(0, PR_GET_NAME) },	/* for messages */
	{ CALL(prctl), TO_ALL, ARG_IS(0, PR_SET_VMA) },	/* names of malloc's memory */
	{ CALL(prctl), TO_ALL, ARG_IS(0, PR_SET_NO_NEW_PRIVS) },	/* such a thread takes its own, narrower filter */
	{ CALL(seccomp), TO_ALL },			/* adds to what there is, never takes away */
	{ CALL(capset), TO_ALL },			/* gives up; there is nothing to gain */
	{ CALL(capget), TO_ALL },
	{ CALL(gettid), TO_ALL },
	{ CALL(getpid), TO_ALL },
	{ CALL(getuid), TO_ALL },
	{ CALL(geteuid), TO_ALL },
	{ CALL(sched_getaffinity), TO_ALL },		/* how many CPUs: malloc asks */
	{ CALL(sched_setaffinity), TO_VCPU },		/* --pin */
	{ CALL(rt_sigprocmask), TO_ALL },
	{ CALL(rt_sigreturn), TO_ALL },
	{ CALL(rt_sigaction), TO_ALL },			/* abort() and faults: the handler is put back */
	{ CALL(sigaltstack), TO_ALL },
	{ CALL(rt_sigpending), TO_ALL },
	{ CALL(rt_sigtimedwait), TO_ALL },		/* a kick that came before KVM_RUN is taken away */
	{ CALL(exit), TO_ALL },
	{ CALL(exit_group), TO_ALL },
	{ CALL(getrusage), TO_ALL },
	{ CALL(sysinfo), TO_ALL },
	{ CALL(uname), TO_ALL },

	/* Native user code: a vCPU's thread begins and traces processes, and only its own children can be asked for. */
	{ CALL(vfork), TO_VCPU | ONLY_NATIVE },
	{ CALL(clone), TO_VCPU | ONLY_NATIVE, .when = { { 0, UINT32_MAX, CLONE_VM | CLONE_VFORK | 17 /* SIGCHLD */ } }, .n_when = 1 },
	{ CALL(execveat), TO_VCPU | ONLY_NATIVE, .when = { { 4, ALL_64, AT_EMPTY_PATH } }, .n_when = 1 },	/* one page, from a memfd */
	{ CALL(memfd_create), TO_VCPU | ONLY_NATIVE },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_TRACEME) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SETOPTIONS) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_CONT) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SYSEMU) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SYSEMU_SINGLESTEP) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_GETREGS) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SETREGS) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_GETFPREGS) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SETFPREGS) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_GETREGSET) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_SETREGSET) },
	{ CALL(ptrace), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PTRACE_GETSIGINFO) },
	{ CALL(wait4), TO_VCPU },
	{ CALL(waitid), TO_VCPU },
	{ CALL(tgkill), TO_ALL | ONLY_NATIVE, ARG_IS(2, SIGUSR1) },	/* a kick, of whoever raises an interrupt; which process it is for cannot be said here */
	{ CALL(kill), TO_VCPU | ONLY_NATIVE, ARG_IS(1, SIGKILL) },	/* the end of one */
	{ CALL(mmap), TO_VCPU | ONLY_NATIVE, .when = { { 3, UINT32_MAX, MAP_SHARED | MAP_FIXED | MAP_POPULATE } }, .n_when = 1 },	/* in the process: the guest's code */
	/* The process, from its beginning until it has its own filter. */
	{ CALL(dup2), TO_VCPU | ONLY_NATIVE },
	{ CALL(close_range), TO_VCPU | ONLY_NATIVE },
	{ CALL(setpgid), TO_VCPU | ONLY_NATIVE },
	{ CALL(setrlimit), TO_VCPU | ONLY_NATIVE },
	{ CALL(prlimit64), TO_VCPU | ONLY_NATIVE },
	{ CALL(prctl), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PR_SET_PDEATHSIG) },
	{ CALL(prctl), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PR_SET_TSC) },
	{ CALL(prctl), TO_VCPU | ONLY_NATIVE, ARG_IS(0, PR_SET_SECCOMP) },

	/* Disks on web servers. */
	{ CALL(openat), TO_NET, NO_BITS(2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) },	/* resolv.conf, hosts, certificates */
	{ CALL(mmap), TO_NET, NO_BITS(2, PROT_WRITE) },	/* the resolver's modules are libraries */
	{ CALL(socket), TO_NET },
	{ CALL(socketpair), TO_NET },
	{ CALL(connect), TO_NET },
	{ CALL(socket), TO_PEER, ARG_IS(0, AF_UNIX) },	/* vhost-user: to the path that the user named, again and again */
	{ CALL(socketpair), TO_PEER, ARG_IS(0, AF_UNIX) },	/* for the peer's own requests */
	{ CALL(connect), TO_PEER },
	{ CALL(memfd_create), TO_PEER },		/* rings for a peer that comes after another */
	{ CALL(bind), TO_NET },
	{ CALL(sendto), TO_NET },
	{ CALL(sendmmsg), TO_NET },
	{ CALL(recvmmsg), TO_NET },
	{ CALL(pipe2), TO_NET },
	{ CALL(pipe), TO_NET },
	{ CALL(access), TO_DATA },			/* why a disk cannot be opened */
	{ CALL(faccessat), TO_NET | TO_SHARE },
	{ CALL(stat), TO_NET },
	{ CALL(lstat), TO_NET },
	{ CALL(statx), TO_NET | TO_SHARE },
	{ CALL(statfs), TO_NET | TO_SHARE },
	{ CALL(fstatfs), TO_NET | TO_SHARE },
	{ CALL(getdents64), TO_NET | TO_SHARE },
	{ CALL(select), TO_NET },
	{ CALL(pselect6), TO_NET },

	/* The main thread: what a user asks for by the control protocol, with the rights of who started the VMM; and shared folders,
	 * whose threads open files in them and start and connect to nothing. */
	{ CALL(openat), TO_SHARE },			/* disks, pictures, snapshots, logs */
	{ CALL(open), TO_MAIN },
	{ CALL(openat2), TO_SHARE },
	{ CALL(creat), TO_MAIN },
	{ CALL(fchmod), TO_SHARE },
	{ CALL(chmod), TO_SHARE },
	{ CALL(fchmodat), TO_SHARE },
	{ CALL(fchown), TO_SHARE },
	{ CALL(fchownat), TO_SHARE },
	{ CALL(utimensat), TO_SHARE },
	{ CALL(umask), TO_SHARE },
	{ CALL(mkdir), TO_MAIN },
	{ CALL(mkdirat), TO_SHARE },
	{ CALL(mknodat), TO_SHARE },			/* shared folders */
	{ CALL(rmdir), TO_MAIN },
	{ CALL(unlink), TO_MAIN },			/* sockets, PID files, temporary layers */
	{ CALL(unlinkat), TO_SHARE },
	{ CALL(rename), TO_MAIN },
	{ CALL(renameat), TO_SHARE },
	{ CALL(renameat2), TO_SHARE },
	{ CALL(link), TO_MAIN },
	{ CALL(linkat), TO_SHARE },			/* a file gets its name when it is whole */
	{ CALL(symlink), TO_MAIN },
	{ CALL(symlinkat), TO_SHARE },
	{ CALL(readlinkat), TO_SHARE },
	{ CALL(faccessat2), TO_SHARE },
	{ CALL(fgetxattr), TO_SHARE },
	{ CALL(fsetxattr), TO_SHARE },
	{ CALL(flistxattr), TO_SHARE },
	{ CALL(fremovexattr), TO_SHARE },
	{ CALL(getxattr), TO_SHARE },			/* of /proc/self/fd */
	{ CALL(lgetxattr), TO_SHARE },
	{ CALL(setxattr), TO_SHARE },
	{ CALL(lsetxattr), TO_SHARE },
	{ CALL(listxattr), TO_SHARE },
	{ CALL(llistxattr), TO_SHARE },
	{ CALL(removexattr), TO_SHARE },
	{ CALL(lremovexattr), TO_SHARE },
	{ CALL(chdir), TO_MAIN },			/* programs that migrations go through */
	{ CALL(fchdir), TO_MAIN },
	{ CALL(truncate), TO_SHARE },
	{ CALL(syncfs), TO_SHARE },
	{ CALL(splice), TO_MAIN },
	{ CALL(sendfile), TO_MAIN },
	{ CALL(dup3), TO_MAIN },
	{ CALL(listen), TO_MAIN },			/* NBD export, monitors, gdb */
	{ CALL(memfd_create), TO_MAIN },
	{ CALL(io_uring_setup), TO_MAIN },		/* a disk is added */
	{ CALL(io_uring_register), TO_MAIN },
	{ CALL(epoll_create1), TO_MAIN },
	{ CALL(timerfd_create), TO_MAIN },
	{ CALL(signalfd4), TO_MAIN },
	{ CALL(inotify_init1), TO_MAIN },
	{ CALL(inotify_add_watch), TO_MAIN },
	{ CALL(inotify_rm_watch), TO_MAIN },
	/* Terminals, but not TIOCSTI (5412h), which types into the user's shell, nor TIOCLINUX (541ch). */
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xfff0, 0x5400 } }, .n_when = 1 },	/* modes */
	{ CALL(ioctl), TO_MAIN, ARG_IS(1, TIOCGWINSZ) },
	{ CALL(ioctl), TO_MAIN, ARG_IS(1, TIOCSWINSZ) },
	{ CALL(ioctl), TO_MAIN, ARG_IS(1, TIOCSPGRP) },
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xfff0, 0x5420 } }, .n_when = 1 },	/* FIONBIO, TIOCNOTTY */
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xfff0, 0x5430 } }, .n_when = 1 },	/* ptys: number, lock */
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xfff0, 0x5440 } }, .n_when = 1 },	/* TIOCGPTPEER */
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xfff0, 0x5450 } }, .n_when = 1 },	/* FIOCLEX */
	{ CALL(ioctl), TO_MAIN, .when = { { 1, 0xff80, 0x5480 } }, .n_when = 1 },	/* tap devices */
	{ CALL(ioctl), TO_MAIN, IOCTL_OF(0x89) },	/* network interfaces */
	{ CALL(ioctl), TO_MAIN, IOCTL_OF(0x94) },	/* FICLONE */
	{ CALL(ioctl), TO_MAIN, IOCTL_OF('f') },	/* flags of files: no copy on write */
	{ CALL(ioctl), TO_MAIN, IOCTL_OF(0xaa) },	/* userfaultfd */
	{ CALL(ioctl), TO_MAIN, IOCTL_OF(0xaf) },	/* vhost */
	{ CALL(mmap), TO_MAIN },			/* code of the resolver's and the crypto library's modules; a vCPU that is added */
	{ CALL(mprotect), TO_MAIN },
	{ CALL(fork), TO_MAIN },			/* `exec:` of a migration, helpers: they have this filter */
	{ CALL(vfork), TO_MAIN },
	{ CALL(clone), TO_MAIN, NO_BITS(0, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET) },
	{ CALL(execve), TO_MAIN },
	{ CALL(execveat), TO_MAIN },
	{ CALL(arch_prctl), TO_MAIN },			/* the beginning of a program */
	{ CALL(set_tid_address), TO_MAIN },
	{ CALL(setsid), TO_MAIN },
	{ CALL(getpgrp), TO_MAIN },
	{ CALL(getppid), TO_MAIN },
	{ CALL(getgid), TO_MAIN },
	{ CALL(getegid), TO_MAIN },
	{ CALL(getgroups), TO_MAIN },
	{ CALL(getresuid), TO_MAIN },
	{ CALL(getresgid), TO_MAIN },
	{ CALL(setresuid), TO_SHARE },			/* --runas */
	{ CALL(setresgid), TO_SHARE },
	{ CALL(setgroups), TO_SHARE },
	{ CALL(setfsuid), TO_SHARE },			/* shared folders with the guest's owners */
	{ CALL(setfsgid), TO_SHARE },
	{ CALL(dup2), TO_MAIN },
	{ CALL(close_range), TO_MAIN },
	{ CALL(setpgid), TO_MAIN },
	{ CALL(kill), TO_MAIN },			/* swtpm */
	{ CALL(tgkill), TO_MAIN },
	{ CALL(getrlimit), TO_MAIN },
	{ CALL(prlimit64), TO_MAIN },
	{ CALL(prctl), TO_MAIN },
	{ CALL(sched_setaffinity), TO_MAIN },
	{ CALL(sched_getscheduler), TO_MAIN },
	{ CALL(sched_setscheduler), TO_MAIN },
	{ CALL(sched_getparam), TO_MAIN },
	{ CALL(setpriority), TO_MAIN },
	{ CALL(getpriority), TO_MAIN },
	{ CALL(mbind), TO_MAIN },			/* memory on NUMA nodes */
	{ CALL(get_mempolicy), TO_MAIN },
	{ CALL(set_mempolicy), TO_MAIN },
	{ CALL(userfaultfd), TO_MAIN },			/* memory that comes after its guest */
	{ CALL(times), TO_MAIN },
	{ CALL(alarm), TO_MAIN },
	{ CALL(pause), TO_MAIN },
	{ CALL(rt_sigsuspend), TO_MAIN },
	{ CALL(getitimer), TO_MAIN },
	{ CALL(setitimer), TO_MAIN },
};
const size_t confine_n_rules = ARRAY_LEN(confine_rules);

const int confine_unknown[] = {
	SCMP_SYS(clone3),	/* its flags lie in memory, where no filter sees them; clone's do not */
	449,			/* futex_waitv, */
	450,			/* set_mempolicy_home_node, */
	451,			/* cachestat, */
	452,			/* fchmodat2, */
	453,			/* map_shadow_stack, */
	454, 455, 456,		/* futex_wake, futex_wait, futex_requeue, */
	462,			/* mseal: newer than what this was made with */
};
const size_t confine_n_unknown = ARRAY_LEN(confine_unknown);

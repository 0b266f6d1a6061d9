/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks: open-file-description locks (fcntl(2)), which the kernel drops
 * when the last user of the descriptor is gone, however it went.
 *
 * Byte 300 is ours: shared by readers, exclusive to a writer, one atomic test.
 * Besides, the bytes that QEMU and its tools use are taken and looked at, so
 * that neither side opens what the other writes: byte 100+p, lock held shared,
 * says "I use permission p", byte 200+p says "nobody else may" (p: 0 consistent
 * read, 1 write, 2 write the same data, 3 resize).
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "block/file.h"

#define OWN_BYTE 300
#define USES_BASE 100
#define DENIES_BASE 200
#define N_PERMS 4
#define READER_USES 0x1u
#define READER_DENIES 0xau	/* write, resize */
#define WRITER_USES 0xfu
#define WRITER_DENIES 0xfu

/* A killed holder's last I/O may still be in the kernel, and its lock with it. */
#define RETRIES 20
#define RETRY_NS 25000000

static int set_byte(int fd, short type, off_t byte)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Does somebody else hold a lock on the byte? */
static bool byte_taken(int fd, off_t byte)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

void file_unlock(int fd)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, F_OFD_SETLK, &fl);
}

static int try_lock(int fd, bool exclusive)
{
	unsigned uses = exclusive ? WRITER_USES : READER_USES;
	unsigned denies = exclusive ? WRITER_DENIES : READER_DENIES;
	int ret = set_byte(fd, exclusive ? F_WRLCK : F_RDLCK, OWN_BYTE);

	for (unsigned p = 0; p < N_PERMS && !ret; p++) {
		if (uses & BIT(p))
			ret = set_byte(fd, F_RDLCK, USES_BASE + p);
		if (!ret && (denies & BIT(p)))
			ret = set_byte(fd, F_RDLCK, DENIES_BASE + p);
	}
	for (unsigned p = 0; p < N_PERMS && !ret; p++) {
		if ((uses & BIT(p)) && byte_taken(fd, DENIES_BASE + p))
			ret = -EAGAIN;
		if ((denies & BIT(p)) && byte_taken(fd, USES_BASE + p))
			ret = -EAGAIN;
	}
	if (ret)
		file_unlock(fd);
	return ret == -EACCES ? -EAGAIN : ret;
}

int file_relock(int fd, bool exclusive)
{
	int ret = 0;

	if (exclusive) {
		ret = set_byte(fd, F_WRLCK, OWN_BYTE);
		if (ret)
			return ret == -EACCES ? -EAGAIN : ret;
		for (unsigned p = 0; p < N_PERMS && !ret; p++) {
			ret = set_byte(fd, F_RDLCK, USES_BASE + p);
			ret = ret ? ret : set_byte(fd, F_RDLCK, DENIES_BASE + p);
		}
		for (unsigned p = 0; p < N_PERMS && !ret; p++)
			if (byte_taken(fd, DENIES_BASE + p) || byte_taken(fd, USES_BASE + p))
				ret = -EAGAIN;
		if (!ret)
			return 0;
	}
	for (unsigned p = 0; p < N_PERMS; p++) {
		if (!(READER_USES & BIT(p)))
			set_byte(fd, F_UNLCK, USES_BASE + p);
		if (!(READER_DENIES & BIT(p)))
			set_byte(fd, F_UNLCK, DENIES_BASE + p);
	}
	set_byte(fd, F_RDLCK, OWN_BYTE);
	return ret == -EACCES ? -EAGAIN : ret;
}

/* Does /proc/PID/fdinfo/FD list an open-file-description lock? */
static bool fdinfo_has_lock(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[256];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5) && strstr(line, "OFDLCK");
	fclose(f);
	return found;
}

/* Does the process hold a lock through a descriptor of this file other than `fd`? */
static bool process_holds(const char *pid, const struct stat *st, int own_fd)
{
	char path[600];
	struct dirent *d;
	struct stat s;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (d = readdir(dir))) {
		if (!isdigit((unsigned char)d->d_name[0]) || atoi(d->d_name) == own_fd)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, d->d_name);
		if (stat(path, &s) || s.st_dev != st->st_dev || s.st_ino != st->st_ino)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, d->d_name);
		found = fdinfo_has_lock(path);
	}
	closedir(dir);
	return found;
}

/*
 * The kernel reports pid -1 for these locks, here and in /proc/locks, so the
 * holder is found by its descriptor.  0 if it is another user's or gone.
 */
static int find_holder(int fd)
{
	struct stat st;
	struct dirent *d;
	int pid = 0;
	DIR *dir = opendir("/proc");

	if (!dir)
		return 0;
	if (fstat(fd, &st) == 0) {
		while (!pid && (d = readdir(dir))) {
			int p = isdigit((unsigned char)d->d_name[0]) ? atoi(d->d_name) : 0;

			if (p && process_holds(d->d_name, &st, p == getpid() ? fd : -1))
				pid = p;
		}
	}
	closedir(dir);
	return pid;
}

static int say_locked(const char *path, int pid, struct err *e)
{
	char name[64], comm[64] = "?";
	FILE *f;

	if (!pid)
		return err_set(e, -EBUSY,
			       "disk '%s' is locked by another process: stop that one, or open the disk read-only in both",
			       path);
	if (pid == getpid())
		return err_set(e, -EBUSY, "disk '%s' is given twice to this machine and one of the two may write", path);
	snprintf(name, sizeof(name), "/proc/%d/comm", pid);
	f = fopen(name, "re");
	if (f) {
		if (fgets(comm, sizeof(comm), f))
			comm[strcspn(comm, "\n")] = 0;
		fclose(f);
	}
	return err_set(e, -EBUSY,
		       "disk '%s' is in use by process %d (%s): stop that one, or open the disk read-only in both",
		       path, pid, comm);
}

int file_lock(int fd, const char *path, bool exclusive, struct err *e)
{
	const struct timespec pause = { .tv_nsec = RETRY_NS };
	int pid, ret;

	for (unsigned i = 0;; i++) {
		ret = try_lock(fd, exclusive);
		if (!ret)
			return 0;
		if (ret != -EAGAIN)
			break;
		pid = find_holder(fd);
		if (pid || i == RETRIES)
			return say_locked(path, pid, e);
		nanosleep(&pause, NULL);
	}
	/* NFS without lockd and the like: a missing lock must not stop the machine. */
	log_warn("disk '%s' cannot be locked on this file system (%s): see to it that nobody else writes it", path,
		 strerror(-ret));
	return 0;
}

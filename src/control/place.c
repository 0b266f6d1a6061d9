// SPDX-License-Identifier: GPL-2.0-or-later
/* The folders of running guests: see place.h. */
#include "control/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_LEN 256
#define TRIES 8

struct ctl_place {
	char dir[PATH_LEN], socket[PATH_LEN + 8], pid[PATH_LEN + 8];
	int fd;				/* the folder, locked */
};

/* The user's own, and nobody else may write there. */
static int check_folder(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st))
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return err_set(e, -EPERM, "%s is not a folder of this user alone", path);
	return 0;
}

static int make_folder(const char *path, struct err *e)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	return check_folder(path, e);
}

int ctl_place_root(char *path, size_t len, bool make, struct err *e)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	char run[64];
	struct stat st;

	snprintf(run, sizeof(run), "/run/user/%u", (unsigned)geteuid());
	if ((!base || base[0] != '/') && !stat(run, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid())
		base = run;
	if (base && base[0] == '/')
		snprintf(path, len, "%s/lodge", base);
	else
		snprintf(path, len, "/tmp/lodge-%u", (unsigned)geteuid());
	return make ? make_folder(path, e) : check_folder(path, e);
}

static int check_name(const char *name, struct err *e)
{
	if (name[0] == '.' || strchr(name, '/') || strlen(name) > 64)
		return err_set(e, -EINVAL, "'%.70s' cannot be a file's name, so there is no control socket", name);
	return 0;
}

/* Opens and locks the folder, and looks that it is still the one of that name. */
static int lock_folder(struct ctl_place *p, struct err *e)
{
	struct stat a, b;
	int ret = make_folder(p->dir, e);

	if (ret)
		return ret;
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->fd < 0)
		return errno == ENOENT ? -EAGAIN : err_set(e, -errno, "%s: %s", p->dir, strerror(errno));
	if (flock(p->fd, LOCK_EX | LOCK_NB))
		ret = -EEXIST;
	else if (fstat(p->fd, &a) || stat(p->dir, &b) || a.st_ino != b.st_ino || a.st_dev != b.st_dev)
		ret = -EAGAIN;
	if (ret) {
		close(p->fd);
		p->fd = -1;
	}
	return ret;
}

static void write_pid(const struct ctl_place *p)
{
	int fd = open(p->pid, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	dprintf(fd, "%ld\n", (long)getpid());
	close(fd);
}

static pid_t read_pid(const char *dir)
{
	char path[PATH_LEN + 8];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/pid", dir);
	f = fopen(path, "re");
	if (f && fscanf(f, "%ld", &pid) != 1)
		pid = 0;
	if (f)
		fclose(f);
	return (pid_t)pid;
}

int ctl_place_new(const char *name, struct ctl_place **out, struct err *e)
{
	struct ctl_place *p = calloc(1, sizeof(*p));
	char root[PATH_LEN - 80];
	int ret = -EAGAIN;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	ret = check_name(name, e);
	if (!ret)
		ret = ctl_place_root(root, sizeof(root), true, e);
	if (ret) {
		free(p);
		return ret;
	}
	snprintf(p->dir, sizeof(p->dir), "%s/%s", root, name);
	snprintf(p->socket, sizeof(p->socket), "%s/" CTL_SOCKET_NAME, p->dir);
	snprintf(p->pid, sizeof(p->pid), "%s/pid", p->dir);
	ret = -EAGAIN;
	for (int i = 0; i < TRIES && ret == -EAGAIN; i++)
		ret = lock_folder(p, e);
	if (ret == -EEXIST)
		err_set(e, ret, "a guest named '%s' is running already (process %ld): choose another --name, or --control off",
			name, (long)read_pid(p->dir));
	else if (ret == -EAGAIN)
		err_set(e, ret, "%s cannot be taken: it comes and goes", p->dir);
	else if (!ret && strlen(p->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		ret = err_set(e, -ENAMETOOLONG, "%s is too long for a socket's path", p->socket);
	if (ret) {
		if (p->fd > 0)
			close(p->fd);
		free(p);
		return ret;
	}
	/* Whoever left it is gone. */
	unlink(p->socket);
	write_pid(p);
	*out = p;
	return 0;
}

const char *ctl_place_socket(const struct ctl_place *p)
{
	return p->socket;
}

void ctl_place_free(struct ctl_place *p)
{
	if (!p)
		return;
	unlink(p->socket);
	unlink(p->pid);
	rmdir(p->dir);
	close(p->fd);
	free(p);
}

int ctl_place_find(const char *name, char *socket_path, size_t len, pid_t *pid, struct err *e)
{
	char root[PATH_LEN - 80], dir[PATH_LEN];
	int ret = check_name(name, e);

	if (!ret)
		ret = ctl_place_root(root, sizeof(root), false, e);
	if (!ret) {
		snprintf(dir, sizeof(dir), "%s/%s", root, name);
		snprintf(socket_path, len, "%s/" CTL_SOCKET_NAME, dir);
		*pid = read_pid(dir);
		/* Whether somebody listens there shows when one connects; locking the folder to see would be in a guest's way. */
		ret = access(socket_path, F_OK) ? -ENOENT : 0;
	}
	return ret == -ENOENT ? err_set(e, -ENOENT, "no guest named '%s' is running; 'lodge ps' lists those that are", name) : ret;
}

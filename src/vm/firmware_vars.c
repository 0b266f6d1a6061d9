// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file with a guest's UEFI variables: made from the firmware's template the
 * first time, written through as the guest changes them.
 *
 * It lies where --firmware-vars says, or beside the first disk as DISK.efivars.
 * Without such a disk variables live as long as the guest does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/firmware.h"

#define MAX_VARS (16 << 20)

struct vm_vars {
	char *path;		/* NULL: in memory alone */
	int fd;			/* -1 then */
	uint8_t *data;		/* contents at the start */
	size_t len;
};

static int read_all(int fd, const char *path, struct vm_vars *v, struct err *e)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return err_set(e, -errno, "UEFI variables %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_VARS || st.st_size % 4096)
		return err_set(e, -EINVAL, "UEFI variables %s: not a file of such: its size must be a multiple of 4 KiB, up to 16 MiB", path);
	v->len = (size_t)st.st_size;
	v->data = malloc(v->len);
	if (!v->data)
		return err_set(e, -ENOMEM, "UEFI variables %s: out of memory", path);
	for (size_t done = 0; done < v->len; done += (size_t)n) {
		n = pread(fd, v->data + done, v->len - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return err_set(e, n ? -errno : -EIO, "UEFI variables %s: %s", path, n ? strerror(errno) : "it shrank while it was read");
	}
	return 0;
}

static int read_template(const char *path, struct vm_vars *v, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return err_set(e, -errno, "the template of UEFI variables %s: %s", path, strerror(errno));
	ret = read_all(fd, path, v, e);
	close(fd);
	return ret;
}

static int write_all(int fd, uint64_t off, const uint8_t *p, size_t len)
{
	ssize_t n;

	while (len) {
		n = pwrite(fd, p, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		off += (uint64_t)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Beside the first disk, if that is a file the guest writes to. */
static int default_path(const struct vm_config *cfg, char **out)
{
	const struct vm_disk *d = vm_config_first_disk(cfg);
	struct stat st;

	*out = NULL;
	if (cfg->from_snapshot || !d || !d->path || d->open.file.read_only || stat(d->path, &st) || !S_ISREG(st.st_mode))
		return 0;
	return asprintf(out, "%s.efivars", d->path) < 0 ? -ENOMEM : 0;
}

static int lock(int fd, const char *path, struct err *e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	/* A file system without locks has none to give. */
	if (!fcntl(fd, F_OFD_SETLK, &l) || (errno != EAGAIN && errno != EACCES))
		return 0;
	return err_set(e, -EAGAIN, "UEFI variables %s: another guest has them in use; give this one a file of its own "
		       "(--firmware-vars)", path);
}

/* A new file has the template's contents; one that is there must be as long. */
static int open_file(struct vm *vm, struct vm_vars *v, const char *template, struct err *e)
{
	struct vm_vars old = { .fd = -1 };
	struct stat st;
	int ret;

	v->fd = open(v->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (v->fd >= 0)
		vm_made_file(vm, v->path);
	else
		v->fd = open(v->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);	/* where a dangling link leads, too */
	if (v->fd < 0)
		return err_set(e, -errno, "UEFI variables %s: %s", v->path, strerror(errno));
	ret = lock(v->fd, v->path, e);
	if (ret)
		return ret;
	if (fstat(v->fd, &st) || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "UEFI variables %s: not a regular file", v->path);
	if (!st.st_size) {
		ret = write_all(v->fd, 0, v->data, v->len);
		if (ret)
			return err_set(e, ret, "UEFI variables %s: %s", v->path, strerror(-ret));
		if (log_enabled(LOG_WARN))
			fprintf(stderr, "lodge: the guest's UEFI variables are kept in %s\n", v->path);
		return 0;
	}
	ret = read_all(v->fd, v->path, &old, e);
	if (!ret && old.len != v->len)
		ret = err_set(e, -EINVAL, "UEFI variables %s: %zu bytes, but this firmware's are %zu (%s): they were made for another build",
			      v->path, old.len, v->len, template);
	free(v->data);
	v->data = old.data;
	return ret;
}

static int store(void *opaque, uint64_t off, const void *data, size_t len)
{
	struct vm_vars *v = opaque;

	return v->fd < 0 ? 0 : write_all(v->fd, off, data, len);
}

int vm_vars_open(struct vm *vm, const char *template, struct platform_firmware *fw, struct err *e)
{
	const char *given = vm->cfg->firmware_vars;
	struct vm_vars *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->fd = -1;
	vm->vars = v;
	ret = given ? 0 : default_path(vm->cfg, &v->path);
	if (!ret && given && !(v->path = strdup(given)))
		ret = -ENOMEM;
	if (ret)
		return err_set(e, ret, "out of memory");
	ret = read_template(template, v, e);
	/* The variables come with the guest; their file is its last owner's until then. */
	if (!ret && v->path && !vm->cfg->incoming)
		ret = open_file(vm, v, template, e);
	if (ret)
		return ret;
	fw->vars = v->data;
	fw->vars_len = v->len;
	fw->store_vars = store;
	fw->vars_opaque = v;
	return 0;
}

void vm_vars_release(struct vm *vm)
{
	struct vm_vars *v = vm->vars;

	if (v && v->fd >= 0)
		close(v->fd);
	if (v)
		v->fd = -1;
}

int vm_vars_take(struct vm *vm, struct err *e)
{
	struct vm_vars *v = vm->vars;
	struct stat st;

	if (!v || !v->path || v->fd >= 0)
		return 0;
	v->fd = open(v->path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return err_set(e, -errno, "UEFI variables %s: %s", v->path, strerror(errno));
	if (!lock(v->fd, v->path, e) && !fstat(v->fd, &st) && (uint64_t)st.st_size == v->len)
		return 0;
	vm_vars_release(vm);
	return err_set(e, -EAGAIN, "UEFI variables %s: they are another guest's, or have another size than the guest's", v->path);
}

void vm_vars_free(struct vm *vm)
{
	struct vm_vars *v = vm->vars;

	if (!v)
		return;
	if (v->fd >= 0)
		close(v->fd);
	free(v->data);
	free(v->path);
	free(v);
	vm->vars = NULL;
}

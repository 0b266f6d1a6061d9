// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See snapshot_memory.h.
 *
 * A chain holds together by ids and checksums, not by names: the state says which index it has, the index what the memory is and which
 * memory is below it; its place is only where it was.  If it is not there any more it is looked for beside the difference, so that
 * a folder of snapshots can be moved.
 */
#include "vm/snapshot_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"

#define NOTES "differences"

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct snapshot_memory, id), SNAP_FIELD(struct snapshot_memory, index_len), SNAP_FIELD(struct snapshot_memory, index_crc), SNAP_END
};
const struct snap_table snapshot_memory_table = { "memory", 1, fields };

static int open_in(const char *dir, const char *name, int *fd, struct err *e)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "'%.60s...' is too long a path", dir);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? err_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

int vm_snapshot_slurp(int fd, const char *what, uint64_t max, uint8_t **out, size_t *len, struct err *e)
{
	struct stat st;
	ssize_t n = 1;

	if (fstat(fd, &st))
		return err_set(e, -errno, "the file '%s': %s", what, strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max)
		return err_set(e, -EINVAL, "the file '%s' is none that Lodge wrote", what);
	*out = malloc((size_t)st.st_size + 1);
	if (!*out)
		return err_set(e, -ENOMEM, "out of memory");
	for (*len = 0; *len < (size_t)st.st_size && n > 0; *len += n > 0 ? (size_t)n : 0)
		n = pread(fd, *out + *len, (size_t)st.st_size - *len, (off_t)*len);
	if (n >= 0)
		return 0;
	n = err_set(e, -errno, "the file '%s' cannot be read: %s", what, strerror(errno));
	free(*out);
	*out = NULL;
	return (int)n;
}

static int read_index(const char *dir, const struct snapshot_memory *about, uint64_t size, struct mem_index *ix, struct err *e)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	int fd, ret = open_in(dir, SNAPSHOT_INDEX, &fd, e);

	if (ret)
		return ret;
	ret = vm_snapshot_slurp(fd, SNAPSHOT_INDEX, MEM_INDEX_MAX, &bytes, &len, e);
	close(fd);
	if (!ret && (len != about->index_len || crc32c(0, bytes, len) != about->index_crc))
		ret = err_set(e, -EINVAL, "the index of the saved memory is damaged, or another snapshot's");
	ret = ret ? ret : mem_index_parse(bytes, len, size, ix, e);
	if (!ret && memcmp(ix->id, about->id, MEM_ID_LEN) != 0) {
		mem_index_free(ix);
		ret = err_set(e, -EINVAL, "the index is another snapshot's");
	}
	free(bytes);
	return ret;
}

/* What the state in a locked file says of the memory. */
static int read_about(int fd, struct snapshot_memory *about, uint64_t *size, struct err *e)
{
	struct snapshot_section sect[SNAPSHOT_SECTIONS];
	struct snapshot_machine m;
	uint8_t *bytes;
	size_t len;
	int ret = vm_snapshot_slurp(fd, "state", SNAPSHOT_STATE_MAX, &bytes, &len, e);

	if (ret)
		return ret;
	ret = snapshot_file_parse(bytes, len, sect, e);
	ret = ret ? ret : vm_snapshot_record(&sect[SNAPSHOT_MACHINE], "machine", &snapshot_machine_table, &m, e);
	if (!ret && !sect[SNAPSHOT_MEMORY].data)
		ret = 1;
	else if (!ret)
		ret = vm_snapshot_record(&sect[SNAPSHOT_MEMORY], "memory", &snapshot_memory_table, about, e);
	if (ret >= 0)
		*size = m.mem_size;
	free(bytes);
	return ret;
}

int vm_snapshot_record(const struct snapshot_section *s, const char *id, const struct snap_table *t, void *out, struct err *e)
{
	struct snap_in *in;
	int ret = snap_in_new(&in, s->data, s->len) ? err_set(e, -ENOMEM, "out of memory") : 0;

	if (ret)
		return ret;
	ret = snap_get(in, id, t, out, e);
	snap_in_free(in);
	return ret;
}

/* 1: it has no index. */
static int lock_and_look(const char *dir, struct snapshot_held *h, struct snapshot_memory *about, uint64_t *size, struct err *e)
{
	int fd, ret = vm_snapshot_check(dir, e);

	if (!ret && h->n == MEM_IMAGE_LEVELS)
		ret = err_set(e, -EINVAL, "'%s' is a difference of a difference more than %u times", dir, MEM_IMAGE_LEVELS - 1);
	ret = ret ? ret : open_in(dir, "state", &fd, e);
	if (ret)
		return ret;
	h->lock[h->n++] = fd;
	if (flock(fd, LOCK_SH | LOCK_NB))
		return err_set(e, -errno, "'%s' is being removed", dir);
	ret = read_about(fd, about, size, e);
	return ret < 0 ? err_prefix(e, ret, "'%s'", dir) : ret;
}

/* Where the memory below is: at its place, or beside the one that needs it. */
static int find_below(const char *dir, const char *place, char out[PATH_MAX], struct err *e)
{
	const char *name = strrchr(place, '/') + 1, *slash = strrchr(dir, '/');

	snprintf(out, PATH_MAX, "%s", place);
	if (!vm_snapshot_check(out, NULL))
		return 0;
	if (*name && snprintf(out, PATH_MAX, "%.*s/%s", slash ? (int)(slash - dir) : 1, slash ? dir : ".", name) < PATH_MAX && !vm_snapshot_check(out, NULL))
		return 0;
	return err_set(e, -ENOENT, "'%s' is a difference of '%s', which is neither there nor beside it", dir, place);
}

struct part {
	int fd;
	bool plain;
	struct mem_index ix;
};

/* From the top down: files and indexes of all. */
static int open_parts(const char *dir, const struct snapshot_memory *about, uint64_t size, struct snapshot_held *h, struct part part[MEM_IMAGE_LEVELS],
		      unsigned *n, struct err *e)
{
	struct snapshot_memory now = about ? *about : (struct snapshot_memory){ 0 };
	char here[PATH_MAX], next[PATH_MAX];
	bool plain = !about;
	int ret = 0;

	snprintf(here, sizeof(here), "%s", dir);
	for (*n = 0; !ret;) {
		struct part *p = &part[*n];
		uint64_t of;

		*p = (struct part){ .plain = plain };
		ret = plain ? 0 : read_index(here, &now, size, &p->ix, e);
		if (ret)
			return err_prefix(e, ret, "'%s'", here);
		ret = open_in(here, "memory", &p->fd, e);
		if (ret) {
			mem_index_free(&p->ix);
			return ret;
		}
		++*n;
		if (!p->ix.diff)
			return 0;
		if (*n == MEM_IMAGE_LEVELS)
			return err_set(e, -EINVAL, "'%s' is a difference of a difference more than %u times", dir, MEM_IMAGE_LEVELS - 1);
		ret = find_below(here, p->ix.below, next, e);
		ret = ret ? ret : lock_and_look(next, h, &now, &of, e);
		plain = ret > 0;
		ret = ret > 0 ? 0 : ret;
		snprintf(here, sizeof(here), "%s", next);
	}
	return ret;
}

int vm_snapshot_memory(const char *dir, const struct snapshot_memory *about, uint64_t size, struct snapshot_held *h, struct err *e)
{
	struct part part[MEM_IMAGE_LEVELS];
	unsigned n = 0;
	int ret = open_parts(dir, about, size, h, part, &n, e);

	if (!ret && mem_image_new(size, &h->image))
		ret = err_set(e, -ENOMEM, "out of memory");
	while (n--) {
		if (!ret) {
			ret = mem_image_push(h->image, part[n].fd, part[n].plain ? NULL : &part[n].ix, e);
		} else {
			close(part[n].fd);
			mem_index_free(&part[n].ix);
		}
	}
	if (ret)
		vm_snapshot_held_free(h);
	return ret;
}

int vm_snapshot_memory_of(const char *dir, uint64_t size, struct snapshot_held *h, struct err *e)
{
	struct snapshot_memory about;
	uint64_t of = 0;
	int ret;

	*h = (struct snapshot_held){ 0 };
	ret = lock_and_look(dir, h, &about, &of, e);
	if (ret >= 0 && size && of != size)
		ret = err_set(e, -EINVAL, "'%s' is of a machine with %llu bytes of memory, not %llu", dir, (unsigned long long)of, (unsigned long long)size);
	if (ret < 0) {
		vm_snapshot_held_free(h);
		return ret;
	}
	return vm_snapshot_memory(dir, ret ? NULL : &about, of, h, e);
}

void vm_snapshot_held_free(struct snapshot_held *h)
{
	mem_image_free(h->image);
	while (h->n)
		close(h->lock[--h->n]);
	h->image = NULL;
}

/* ---- differences of a snapshot ---- */

int vm_snapshot_note_diff(const char *dir, const char *diff, struct err *e)
{
	char path[PATH_MAX];
	size_t len = strlen(diff);
	char *line;
	int fd, ret = 0;

	if (strchr(diff, '\n'))
		return err_set(e, -EINVAL, "the name of a difference has no newline");
	if (snprintf(path, sizeof(path), "%s/" NOTES, dir) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "'%.60s...' is too long a path", dir);
	if (asprintf(&line, "%s\n", diff) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, line, len + 1) != (ssize_t)len + 1 || fsync(fd))
		ret = err_set(e, errno ? -errno : -EIO, "%s: the difference cannot be noted: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(line);
	return ret;
}

/* Does the snapshot in `diff` say that it is a difference of this id? */
static bool needs(const char *diff, const uint8_t id[MEM_ID_LEN])
{
	struct snapshot_held h = { 0 };
	struct snapshot_memory about;
	struct mem_index ix;
	uint64_t size;
	bool yes = false;

	if (!lock_and_look(diff, &h, &about, &size, NULL) && !read_index(diff, &about, size, &ix, NULL)) {
		yes = ix.diff && !memcmp(ix.below_id, id, MEM_ID_LEN);
		mem_index_free(&ix);
	}
	vm_snapshot_held_free(&h);
	return yes;
}

/* The first few names. */
static int say_needed(FILE *f, const char *dir, const uint8_t id[MEM_ID_LEN], struct err *e)
{
	char names[200] = "", *line = NULL;
	size_t room = 0;
	unsigned n = 0;

	while (getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!needs(line, id) || strstr(names, line))
			continue;
		if (n++ < 3)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s'%s'", n > 1 ? ", " : "", line);
	}
	free(line);
	if (!n)
		return 0;
	return err_set(e, -EBUSY, "'%s' stays: %s%s %s of it what %s not changed; remove %s first", dir, names, n > 3 ? " and others" : "", n > 1 ? "have" : "has",
		       n > 1 ? "they have" : "it has", n > 1 ? "them" : "that");
}

int vm_snapshot_unneeded(const char *dir, struct err *e)
{
	struct snapshot_held h = { 0 };
	struct snapshot_memory about;
	char path[PATH_MAX];
	uint64_t size;
	FILE *f;
	int ret;

	if (snprintf(path, sizeof(path), "%s/" NOTES, dir) >= (int)sizeof(path) || !(f = fopen(path, "re")))
		return 0;
	ret = lock_and_look(dir, &h, &about, &size, NULL);
	/* One that is damaged is nobody's any more. */
	ret = ret ? 0 : say_needed(f, dir, about.id, e);
	vm_snapshot_held_free(&h);
	fclose(f);
	return ret;
}

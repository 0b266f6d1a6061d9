// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that clients pass along with their commands: under a name, for the
 * client's own commands (getfd), and in sets.  How many are kept is bounded.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/internal.h"

struct set_fd {
	struct list node;
	int64_t set;
	int fd;
	char *opaque;
};

static unsigned count(const struct list *l)
{
	unsigned n = 0;

	list_for_each(x, l)
		n++;
	return n;
}

void ctl_cmd_getfd(struct ctl_call *c, const struct ctl_args_getfd *a)
{
	int fd = c->mon ? ctl_monitor_take_fd(c->mon) : -1, old;
	struct ctl_fd *f;

	if (fd < 0) {
		ctl_fail(c, CTL_GENERIC_ERROR, "No file descriptor supplied via SCM_RIGHTS");
		return;
	}
	f = calloc(1, sizeof(*f));
	if (isdigit((unsigned char)a->fdname[0]) || !a->fdname[0] || strlen(a->fdname) >= sizeof(f->name)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'fdname' expects a name not starting with a digit");
	} else if (!f || count(&c->mon->fds) >= CTL_MAX_FDS) {
		ctl_fail(c, CTL_GENERIC_ERROR, "too many descriptors are kept for this client; closefd gives them up");
	} else {
		old = ctl_monitor_fd(c->mon, a->fdname);
		if (old >= 0)
			close(old);
		snprintf(f->name, sizeof(f->name), "%s", a->fdname);
		f->fd = fd;
		list_add_tail(&c->mon->fds, &f->node);
		return;
	}
	close(fd);
	free(f);
}

void ctl_cmd_closefd(struct ctl_call *c, const struct ctl_args_closefd *a)
{
	int fd = c->mon ? ctl_monitor_fd(c->mon, a->fdname) : -1;

	if (fd < 0)
		ctl_fail(c, CTL_GENERIC_ERROR, "File descriptor named '%.64s' not found", a->fdname);
	else
		close(fd);
}

static bool set_used(const struct control *ctl, int64_t set)
{
	list_for_each(n, &ctl->fdsets)
		if (list_entry(n, struct set_fd, node)->set == set)
			return true;
	return false;
}

/* The sets are kept in order of their numbers. */
static void insert(struct control *ctl, struct set_fd *s)
{
	struct list *at = ctl->fdsets.next;

	while (at != &ctl->fdsets && list_entry(at, struct set_fd, node)->set <= s->set)
		at = at->next;
	list_add_tail(at, &s->node);
}

static int add(struct ctl_call *c, const struct ctl_args_add_fd *a, int fd)
{
	struct set_fd *s;

	if (a->has_fdset_id && a->fdset_id < 0) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'fdset-id' expects a non-negative value");
		return -1;
	}
	s = count(&c->ctl->fdsets) < CTL_MAX_FDS ? calloc(1, sizeof(*s)) : NULL;
	if (s && a->opaque && !(s->opaque = strdup(a->opaque))) {
		free(s);
		s = NULL;
	}
	if (!s) {
		ctl_fail(c, CTL_GENERIC_ERROR, "too many descriptors are kept; remove-fd gives them up");
		return -1;
	}
	s->fd = fd;
	s->set = a->has_fdset_id ? a->fdset_id : 0;
	while (!a->has_fdset_id && set_used(c->ctl, s->set))
		s->set++;
	insert(c->ctl, s);
	ctl_return(c, json_pack("{s:I,s:i}", "fdset-id", (json_int_t)s->set, "fd", fd));
	return 0;
}

void ctl_cmd_add_fd(struct ctl_call *c, const struct ctl_args_add_fd *a)
{
	int fd = c->mon ? ctl_monitor_take_fd(c->mon) : -1;

	if (fd < 0)
		ctl_fail(c, CTL_GENERIC_ERROR, "No file descriptor supplied via SCM_RIGHTS");
	else if (add(c, a, fd))
		close(fd);
}

static void set_fd_free(struct set_fd *s)
{
	close(s->fd);
	list_del(&s->node);
	free(s->opaque);
	free(s);
}

void ctl_cmd_remove_fd(struct ctl_call *c, const struct ctl_args_remove_fd *a)
{
	bool found = false;

	list_for_each_safe(n, &c->ctl->fdsets) {
		struct set_fd *s = list_entry(n, struct set_fd, node);

		if (s->set != a->fdset_id || (a->has_fd && s->fd != a->fd))
			continue;
		set_fd_free(s);
		found = true;
	}
	if (!found && a->has_fd)
		ctl_fail(c, CTL_GENERIC_ERROR, "File descriptor named 'fdset-id:%lld, fd:%lld' not found",
			 (long long)a->fdset_id, (long long)a->fd);
	else if (!found)
		ctl_fail(c, CTL_GENERIC_ERROR, "File descriptor named 'fdset-id:%lld' not found", (long long)a->fdset_id);
}

void ctl_cmd_query_fdsets(struct ctl_call *c, const struct ctl_args_query_fdsets *a)
{
	json_t *sets = json_array(), *fds = NULL;
	int64_t last = -1;

	list_for_each(n, &c->ctl->fdsets) {
		struct set_fd *s = list_entry(n, struct set_fd, node);

		if (!fds || s->set != last) {
			fds = json_array();
			json_array_append_new(sets, json_pack("{s:I,s:o}", "fdset-id", (json_int_t)s->set, "fds", fds));
		}
		last = s->set;
		json_array_append_new(fds, json_pack("{s:i,s:s*}", "fd", s->fd, "opaque", s->opaque));
	}
	ctl_return(c, sets);
}

/* ---- sets as names of files ---- */

#define SET_PREFIX "/dev/fdset/"

int ctl_fdset_path(struct control *ctl, const char **path, enum ctl_fdset_use use, char buf[CTL_FDSET_NAME], struct err *e)
{
	static const int other[] = { O_RDONLY, O_WRONLY, O_RDWR };
	static const char *const words[] = { "read", "written", "read and written" };
	const char *number = *path + strlen(SET_PREFIX);
	long long set;
	char *end;

	if (strncmp(*path, SET_PREFIX, strlen(SET_PREFIX)))
		return 0;
	errno = 0;
	set = strtoll(number, &end, 10);
	if (!isdigit((unsigned char)*number) || *end || errno)
		return err_set(e, -EINVAL, "'%.60s' is no set of descriptors", *path);
	list_for_each(n, &ctl->fdsets) {
		const struct set_fd *s = list_entry(n, struct set_fd, node);
		int flags = s->set == set ? fcntl(s->fd, F_GETFL) : -1, mode = flags & O_ACCMODE;

		if (flags < 0 || (mode != O_RDWR && mode != other[use]))
			continue;
		snprintf(buf, CTL_FDSET_NAME, "/proc/self/fd/%d", s->fd);
		*path = buf;
		return 0;
	}
	return err_set(e, -EACCES, "Could not open '%.60s': Permission denied (no descriptor of the set can be %s)", *path, words[use]);
}

static int set_paths(struct control *ctl, json_t *d, bool writes, struct err *e)
{
	const char *name = json_string_value(json_object_get(d, "filename")), *key;
	const json_t *ro = json_object_get(d, "read-only");
	char buf[CTL_FDSET_NAME];
	json_t *v;
	int ret = 0;

	writes = ro ? json_is_false(ro) : writes;
	if (name) {
		const char *path = name;

		ret = ctl_fdset_path(ctl, &path, writes && !json_is_true(json_object_get(d, "auto-read-only")) ? CTL_FDSET_BOTH : CTL_FDSET_READ, buf, e);
		if (!ret && path != name && json_object_set_new(d, "filename", json_string(path)))
			ret = err_set(e, -ENOMEM, "out of memory");
	}
	json_object_foreach(d, key, v)
		if (!ret && json_is_object(v))
			ret = set_paths(ctl, v, writes && strcmp(key, "backing") != 0, e);
	return ret;
}

int ctl_fdset_paths(struct control *ctl, json_t *description, struct err *e) { return set_paths(ctl, description, true, e); }

void ctl_fdsets_free(struct control *ctl)
{
	list_for_each_safe(n, &ctl->fdsets)
		set_fd_free(list_entry(n, struct set_fd, node));
}

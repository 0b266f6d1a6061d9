// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge snapshot create|list|check|rm`: saved guests (vm/snapshot.h).
 *
 * What snapshot.json says is for people, and tells rm which disks hold a snapshot
 * of the guest's; it is foreign data like the rest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "run/opts.h"
#include "run/qmp.h"
#include "run/snapshot_inside.h"
#include "vm/snapshot.h"
#include "vm/snapshot_memory.h"

static long long mib(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key)) >> 20;
}

static int create(const struct opt_state *st, struct err *e)
{
	char dir[PATH_MAX], below[PATH_MAX];
	json_t *args, *back = NULL;
	struct qmp *q;
	int ret = whole_path(st->words[2], dir, sizeof(dir), e);

	if (!ret && st->diff_of && !realpath(st->diff_of, below))
		ret = err_set(e, -errno, "'%s': %s", st->diff_of, strerror(errno));
	ret = ret ? ret : qmp_open(st->words[1], 0, &q, e);
	if (ret)
		return ret;
	args = json_pack("{s:s,s:s,s:b}", "directory", dir, "then", st->then ? st->then : "go-on", "compress", st->compress);
	if (st->diff_of)
		json_object_set_new(args, "difference-of", json_string(below));
	ret = qmp_call(q, "x-lodge-snapshot-save", args, &back, e);
	if (!ret)
		printf("%s: %lld MiB of memory in %lld MiB, %lld disks; the guest stood still for %lld ms\n", st->words[2], mib(back, "memory-bytes"),
		       mib(back, "stored-bytes"), json_integer_value(json_object_get(back, "disks")), json_integer_value(json_object_get(back, "pause-ms")));
	json_decref(back);
	qmp_close(q);
	return ret;
}

static int read_json(const char *dir, json_t **out, struct err *e)
{
	char path[PATH_MAX];
	json_error_t je;
	int ret = vm_snapshot_check(dir, e);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_JSON, dir);
	*out = json_load_file(path, 0, &je);
	return *out ? 0 : err_set(e, -EINVAL, "'%s': %s is damaged: %s", dir, SNAPSHOT_JSON, je.text);
}

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "?";
}

static void add(json_t *all, const char *dir)
{
	struct err e = { "" };
	json_t *j;

	if (read_json(dir, &j, &e))
		return;
	json_object_set_new(j, "directory", json_string(dir));
	json_array_append_new(all, j);
}

/* A folder is a snapshot, or has some. */
static int add_folder(json_t *all, const char *dir, struct err *e)
{
	struct dirent **names;
	char path[PATH_MAX];
	int n;

	if (!vm_snapshot_check(dir, NULL)) {
		add(all, dir);
		return 0;
	}
	n = scandir(dir, &names, NULL, alphasort);
	if (n < 0)
		return err_set(e, -errno, "'%s': %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' &&
		    snprintf(path, sizeof(path), "%s%s%s", strcmp(dir, ".") ? dir : "", strcmp(dir, ".") ? "/" : "", names[i]->d_name) < PATH_MAX &&
		    !vm_snapshot_check(path, NULL))
			add(all, path);
		free(names[i]);
	}
	free(names);
	return 0;
}

static int list(const struct opt_state *st, struct err *e)
{
	json_t *all = json_array(), *j;
	int ret = st->n_words < 2 ? add_folder(all, ".", e) : 0;
	size_t i;

	for (unsigned k = 1; k < st->n_words && !ret; k++)
		ret = add_folder(all, st->words[k], e);
	if (!ret && st->json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (!ret) {
		printf("%-24s %-16s %-20s %-10s %4s %9s %9s %s\n", "DIRECTORY", "NAME", "DATE", "ENGINE", "CPUS", "MEMORY", "STORED", "DIFFERENCE-OF");
		json_array_foreach(all, i, j)
			printf("%-24s %-16s %-20s %-10s %4lld %7lldMi %7lldMi %s\n", text(j, "directory"), text(j, "name"), text(j, "date"), text(j, "engine"),
			       json_integer_value(json_object_get(j, "cpus")), mib(j, "memory"), mib(j, json_object_get(j, "stored") ? "stored" : "memory-used"),
			       json_object_get(j, "difference-of") ? text(j, "difference-of") : "-");
	}
	json_decref(all);
	return ret;
}

static int forget_inside(struct loop *l, const char *file, const char *name, struct err *e)
{
	const struct blk_image_opts o = { .format = "qcow2", .no_backing = true, .trust = BLK_TRUST_FOLDER, .no_key = true };
	struct blk_node *n;
	int ret;

	if (access(file, F_OK))
		return 0;		/* the disk is gone, and the snapshot with it */
	if (strncmp(name, "lodge-", 6))
		return err_set(e, -EINVAL, "'%s' is no snapshot that lodge made", name);
	ret = blk_open_image(l, file, &o, &n, e);
	if (ret)
		return ret;
	ret = qcow2_snapshot_delete(n, name, e);
	if (!ret && blk_flush(n))
		ret = err_set(e, -EIO, "'%s' cannot be written", file);
	blk_close(n);
	return ret == -ENOENT ? 0 : ret;
}

static int forget_disks(const json_t *info, struct err *e)
{
	struct loop *l;
	json_t *d;
	size_t i;
	int ret = loop_new(&l);

	if (ret)
		return err_set(e, ret, "out of memory");
	json_array_foreach(json_object_get(info, "disks"), i, d)
		if (!ret)
			ret = forget_inside(l, text(d, "file"), text(d, "snapshot"), e);
	loop_free(l);
	return ret ? err_prefix(e, ret, "the snapshot inside a disk stays (--keep-disks leaves it there)") : 0;
}

static int rm_one(const char *dir, bool keep, struct err *e)
{
	char path[PATH_MAX];
	json_t *info;
	int ret = read_json(dir, &info, e), fd;

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/state", dir);
	ret = vm_snapshot_unneeded(dir, e);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!ret && (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)))
		ret = err_set(e, -errno, "'%s': %s", dir, errno == EWOULDBLOCK ? "a guest runs from it" : strerror(errno));
	if (!ret && !keep)
		ret = forget_disks(info, e);
	for (unsigned i = 0; i < SNAPSHOT_FILES && !ret; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, vm_snapshot_files[i]);
		if (unlink(path))
			ret = err_set(e, -errno, "%s: %s", path, strerror(errno));
	}
	for (unsigned i = 0; i < SNAPSHOT_MORE_FILES && !ret; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, vm_snapshot_more_files[i]);
		if (unlink(path) && errno != ENOENT)
			ret = err_set(e, -errno, "%s: %s", path, strerror(errno));
	}
	if (!ret && rmdir(dir))
		ret = err_set(e, -errno, "'%s': %s", dir, strerror(errno));
	if (fd >= 0)
		close(fd);
	json_decref(info);
	return ret;
}

static int rm(const struct opt_state *st, struct err *e)
{
	int ret = 0;

	for (unsigned i = 1; i < st->n_words && !ret; i++)
		ret = rm_one(st->words[i], st->keep, e);
	return ret;
}

/* All that can be seen without a machine: each file, and memory down to what it is a difference of. */
static int check_one(const char *dir, struct err *e)
{
	struct snapshot_held h;
	json_t *info;
	bool known;
	int ret = read_json(dir, &info, e);

	if (ret)
		return ret;
	json_decref(info);
	ret = vm_snapshot_memory_of(dir, 0, &h, e);
	if (ret)
		return ret;
	known = mem_image_id(h.image);
	ret = mem_image_check(h.image, e);
	if (ret)
		err_prefix(e, ret, "'%s'", dir);
	else
		printf("%s: %s\n", dir, known ? "whole, and all checksums are right" : "whole; its memory is of a version that has no checksums");
	vm_snapshot_held_free(&h);
	return ret;
}

/* All are looked at; the first that is wrong is told at the end. */
static int check(const struct opt_state *st, struct err *e)
{
	struct err one = { "" };
	int ret = 0;

	for (unsigned i = 1; i < st->n_words; i++) {
		int bad = check_one(st->words[i], ret ? &one : e);

		if (bad && ret)
			fprintf(stderr, "lodge: %s\n", one.msg);
		ret = ret ? ret : bad;
	}
	return ret;
}

/* `restore DIR [OPTION]...` is `lodge run --from-snapshot DIR [OPTION]...`, whose options it takes. */
static int restore(int argc, char **argv)
{
	char **args = calloc((size_t)argc + 2, sizeof(*args)), from[] = "--from-snapshot";
	int n = 0, ret;

	if (!args) {
		fprintf(stderr, "lodge: out of memory\n");
		return 1;
	}
	args[n++] = argv[0];
	args[n++] = from;
	for (int i = 2; i < argc; i++)
		args[n++] = argv[i];
	ret = run_main(find_verb("run"), n, args);
	free(args);
	return ret;
}

int snapshot_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct err e = { "" };
	const char *what;
	int ret;

	if (argc > 2 && !strcmp(argv[1], "restore") && argv[2][0] != '-')
		return restore(argc, argv);
	ret = opts_alone(v, argc, argv, &st);
	if (ret >= 0)
		return ret;
	what = st.n_words ? st.words[0] : "";
	ret = st.inside ? snapshot_inside(&st, &e) : 1;
	if (st.inside) {
		if (ret > 0)
			opts_help(v, stderr);
	} else if (!strcmp(what, "create") && st.n_words == 3) {
		ret = create(&st, &e);
	} else if (!strcmp(what, "list")) {
		ret = list(&st, &e);
	} else if (!strcmp(what, "check") && st.n_words > 1) {
		ret = check(&st, &e);
	} else if (!strcmp(what, "rm") && st.n_words > 1) {
		ret = rm(&st, &e);
	} else {
		opts_help(v, stderr);
		return 1;
	}
	if (ret < 0)
		fprintf(stderr, "lodge: %s\n", e.msg);
	return ret != 0;
}

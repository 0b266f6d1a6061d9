// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img create: a new, empty image.
 *
 * Unlike qemu-img it does not overwrite a file that holds anything, unless
 * --force says so, and even then not one that the new image's own backing chain
 * needs.  A backing file is opened, to see that it is there and how large it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "img/img.h"
#include "img/verbs.h"

struct create {
	const char *path, *size;
	struct img_keys keys;
	const struct img_format *f;
	bool unsafe;
};

static const struct img_opt create_opts[] = {
	{ 'b', 'b', "backing-file", "FILE", "backing file, as it is to be written to the image", "@" },
	{ 'F', 'F', "backing-format", "FORMAT", "its format", "raw qcow2" },
	{ 'o', 'o', "options", "KEY=VALUE,...", "options of the format; '-o help' lists them", NULL },
	{ 'u', 'u', "unsafe", NULL, "do not look at the backing file", NULL },
	{ 0 },
};

static int create_args(struct img *m, struct create *c)
{
	const char *val, *backing = NULL, *backing_format = NULL;
	int id, ret = 0;

	while (!ret && (id = img_next(m, &val)) != 0) {
		if (id < 0)
			return id;
		if (id == 'b')
			backing = val;
		else if (id == 'F')
			backing_format = val;
		else if (id == 'o')
			ret = img_keys_add(&c->keys, val, &m->e);
		else if (id == 'u')
			c->unsafe = true;
	}
	if (!ret && backing)
		ret = img_keys_set(&c->keys, "backing_file", backing, &m->e);
	if (!ret && backing_format)
		ret = img_keys_set(&c->keys, "backing_fmt", backing_format, &m->e);
	c->f = ret ? NULL : img_format_find(m->format ? m->format : "raw", &m->e);
	return c->f ? 0 : ret ? ret : -EINVAL;
}

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Is the file about to be emptied one that `n` or what is below it lies in? */
static int check_not_below(struct img *m, const struct create *c, const struct blk_node *n)
{
	for (; n; n = n->backing)
		if (n->path && same_file(n->path, c->path))
			return err_set(&m->e, -EBUSY, "'%s' is its own backing file that way: not even --force does that", c->path);
	return 0;
}

/* The backing file is there, can be opened, and says how large the disk is if nobody else does. */
static int look_at_backing(struct img *m, struct create *c)
{
	const char *name = img_keys_get(&c->keys, "backing_file"), *format = img_keys_get(&c->keys, "backing_fmt");
	struct blk_node *n;
	char *path, text[32];
	int ret;

	if (!format)
		return err_set(&m->e, -EINVAL, "say the backing file's format with -F: a guest could make its disk look like another "
			       "format, which would be believed if nobody said");
	if (c->unsafe)
		return 0;
	path = blk_relative_path(c->path, name);
	if (!path)
		return err_set(&m->e, -ENOMEM, "out of memory");
	/* The chain below it must be whole only if a file in it could be destroyed. */
	ret = img_open(m, path, format, IMG_NAMED | IMG_NO_KEY | (m->force ? 0 : IMG_NO_BACKING), &n);
	free(path);
	if (ret)
		return err_prefix(&m->e, ret, "backing file");
	ret = check_not_below(m, c, n);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)n->i.size);
	blk_close(n);
	if (!ret && !img_keys_get(&c->keys, "size"))
		ret = img_keys_set(&c->keys, "size", text, &m->e);
	return ret;
}

static int choose_size(struct img *m, struct create *c)
{
	uint64_t bytes = 0;
	char text[32];
	int ret;

	if (c->size)
		ret = img_size(c->size, "size", &bytes, &m->e);
	else
		ret = img_keys_size(&c->keys, "size", &bytes, &m->e);
	if (ret || (!c->size && !img_keys_get(&c->keys, "size")))
		return ret;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	return img_keys_set(&c->keys, "size", text, &m->e);
}

static void say_created(struct img *m, const struct create *c)
{
	size_t len = strlen(c->path);

	/* The default is qemu-img's, the surprise too. */
	if (!m->format && len > 6 && !strcmp(c->path + len - 6, ".qcow2"))
		fprintf(stderr, "lodge img: create: '%s' is a raw image, whatever its name says: -f qcow2 was not given\n", c->path);
	if (m->quiet)
		return;
	printf("Formatting '%s', fmt=%s", c->path, c->f->name);
	for (unsigned i = 0; i < c->keys.n; i++)
		printf(" %s=%s", c->keys.kv[i].key, c->keys.kv[i].val);
	putchar('\n');
}

static int create_checked(struct img *m, struct create *c)
{
	int ret = img_operands(m, 1, 2);

	if (ret)
		return ret;
	c->path = m->operand[0];
	c->size = m->n_operands > 1 ? m->operand[1] : NULL;
	if (!strncmp(c->path, "file:", 5))
		c->path += 5;
	ret = img_format_check(c->f, &c->keys, &m->e);
	ret = ret ? ret : choose_size(m, c);
	if (!ret && img_keys_get(&c->keys, "backing_fmt") && !img_keys_get(&c->keys, "backing_file"))
		ret = err_set(&m->e, -EINVAL, "-F names the format of a backing file, but there is none: say -b FILE");
	if (!ret && img_keys_get(&c->keys, "backing_file"))
		ret = look_at_backing(m, c);
	if (!ret && !img_keys_get(&c->keys, "size"))
		ret = err_set(&m->e, -EINVAL, "how large is the disk to be? usage: lodge img create [OPTION]... %s", m->v->operands);
	ret = ret ? ret : img_format_create(m, c->f, c->path, &c->keys);
	img_progress_end(m, !ret);
	if (!ret)
		say_created(m, c);
	return ret;
}

static int run_create(struct img *m)
{
	struct create c = { 0 };
	int ret = create_args(m, &c);

	if (!ret && !img_format_help(c.f, &c.keys))
		ret = create_checked(m, &c);
	img_keys_free(&c.keys);
	return ret;
}

const struct img_verb img_verb_create = {
	.name = "create",
	.summary = "Makes an empty image.",
	.operands = "FILE [SIZE]",
	.common = IMG_OPT_FORMAT | IMG_OPT_FORCE | IMG_OPT_QUIET | IMG_OPT_PROGRESS | IMG_OPT_OPEN,
	.opts = create_opts,
	.run = run_create,
};

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img snapshot: the snapshots inside an image.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/qcow2/qcow2.h"
#include "img/img.h"
#include "img/info.h"
#include "img/verbs.h"

static const struct img_opt snapshot_opts[] = {
	{ 'l', 'l', "list", NULL, "list them (what is done if nothing else is said)", NULL },
	{ 'c', 'c', "create", "NAME", "make one of the disk as it is now", NULL },
	{ 'a', 'a', "apply", "NAME", "bring the disk back to it; what was written since is lost", NULL },
	{ 'd', 'd', "delete", "NAME", "forget it", NULL },
	{ 0 },
};

int img_show_snapshot(struct img *m, const char *name, struct blk_node *n)
{
	static const char *const prefixes[] = { "snapshot.id=", "snapshot.name=" };

	if (!n->format || strcmp(n->format, "qcow2") != 0)
		return err_set(&m->e, -ENOTSUP, "-l: only qcow2 images have snapshots inside, '%s' is not one", n->path);
	for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			name += strlen(prefixes[i]);
	return qcow2_snapshot_view(n, name, &m->e);
}

static int list(struct img *m, struct blk_node *n)
{
	struct qcow2_snapshot *s;
	unsigned count;
	json_t *j;
	int ret = qcow2_snapshot_list(n, &s, &count, &m->e);

	if (ret)
		return ret;
	j = img_snapshots_json(s, count);
	qcow2_snapshots_free(s, count);
	if (j && m->json)
		return img_json_print(m, j);
	if (!j || img_plain(j)) {
		json_decref(j);
		return err_set(&m->e, -ENOMEM, "out of memory");
	}
	if (count && !m->quiet) {
		printf("Snapshot list:\n");
		img_snapshots_print(j);
	}
	json_decref(j);
	return 0;
}

static int act(struct img *m, struct blk_node *n, int what, const char *name)
{
	if (!n->format || strcmp(n->format, "qcow2") != 0)
		return what == 'l' && !m->json ? 0 : err_set(&m->e, -ENOTSUP, "'%s' is a %s image, which holds no snapshots", n->path,
							     n->format ? n->format : n->drv->name);
	switch (what) {
	case 'c':
		return qcow2_snapshot_create(n, name, &m->e);
	case 'a':
		return qcow2_snapshot_apply(n, name, &m->e);
	case 'd':
		return qcow2_snapshot_delete(n, name, &m->e);
	default:
		return list(m, n);
	}
}

static int run_snapshot(struct img *m)
{
	const char *val, *name = NULL;
	struct blk_node *n;
	int id, what = 0, ret;

	while ((id = img_next(m, &val)) > 0) {
		if (what)
			return err_set(&m->e, -EINVAL, "one of -l, -c, -a, -d at a time");
		what = id;
		name = val;
	}
	ret = id ? id : img_operands(m, 1, 1);
	what = what ? what : 'l';
	/* Tables only: no guest data is looked at, so backing files stay closed. */
	ret = ret ? ret : img_open(m, m->operand[0], m->format, IMG_NO_BACKING | IMG_NO_KEY | (what == 'l' ? 0 : IMG_WRITE), &n);
	if (ret)
		return ret;
	ret = act(m, n, what, name);
	if (!ret && what != 'l' && blk_flush(n))
		ret = err_set(&m->e, -EIO, "'%s' cannot be written", n->path);
	blk_close(n);
	return ret;
}

const struct img_verb img_verb_snapshot = {
	.name = "snapshot",
	.summary = "Lists, makes, applies and deletes snapshots inside an image.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_QUIET | IMG_OPT_OPEN,
	.opts = snapshot_opts,
	.run = run_snapshot,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults on purpose: see filter.h.  Rules are looked at in the order they were
 * added, each counts the requests it matches, and the first that fires decides.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/list.h"
#include "block/filter.h"
#include "block/filter_int.h"

struct fault_rule {
	struct list in;
	struct blk_fault f;
	unsigned seen;
	bool spent;
};

struct faults {
	struct blk_node n;
	struct list rules, late;
	unsigned fired;
};

/* A request that a rule fired for. */
struct faulty {
	struct list in;			/* of faults.late, while it is delayed */
	struct faults *fs;
	struct blk_req r, *up;
	struct blk_fault f;
	struct loop_timer timer;
};

static bool rule_matches(const struct blk_fault *f, const struct blk_req *r)
{
	if (f->ops && !(f->ops & BIT(r->op)))
		return false;
	return r->op == BLK_FLUSH || (r->offset + r->len > f->from && (!f->to || r->offset < f->to));
}

static struct fault_rule *rule_for(struct faults *fs, const struct blk_req *r)
{
	list_for_each(p, &fs->rules) {
		struct fault_rule *rule = list_entry(p, struct fault_rule, in);

		if (rule->spent || !rule_matches(&rule->f, r) || ++rule->seen < rule->f.nth)
			continue;
		rule->spent = rule->f.once;
		fs->fired++;
		return rule;
	}
	return NULL;
}

static void faulty_done(struct blk_req *r, int ret)
{
	struct faulty *y = container_of(r, struct faulty, r);

	blk_finish(y->up, ret ? ret : -y->f.error);
	free(y);
}

static void faulty_go(void *opaque)
{
	struct faulty *y = opaque;

	list_del(&y->in);
	loop_timer_cancel(&y->timer);
	if (y->f.error && !y->f.after) {
		blk_finish(y->up, -y->f.error);
		free(y);
		return;
	}
	y->r = *y->up;
	y->r.done = faulty_done;
	blk_submit(y->fs->n.file, &y->r);
}

static void fault_submit(struct blk_node *n, struct blk_req *r)
{
	struct faults *fs = container_of(n, struct faults, n);
	struct fault_rule *rule = rule_for(fs, r);
	struct faulty *y;

	if (!rule) {
		filter_pass(n->file, r);
		return;
	}
	y = malloc(sizeof(*y));
	if (!y) {
		blk_finish(r, -ENOMEM);
		return;
	}
	y->fs = fs;
	y->up = r;
	y->f = rule->f;
	list_init(&y->in);
	loop_timer_init(n->loop, &y->timer, faulty_go, y);
	if (!y->f.delay_ns) {
		faulty_go(y);
		return;
	}
	list_add_tail(&fs->late, &y->in);
	loop_timer_arm(&y->timer, loop_now_ns() + (int64_t)y->f.delay_ns);
}

static void fault_wait(struct blk_node *n)
{
	struct faults *fs = container_of(n, struct faults, n);

	if (list_empty(&fs->late))
		filter_wait(n);
	else
		faulty_go(list_entry(fs->late.next, struct faulty, in));
}

static void fault_close(struct blk_node *n)
{
	blk_fault_clear(n);
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct faults, n));
}

static const struct blk_driver fault_driver = {
	.name = "fault",
	.filter = true,
	.submit = fault_submit,
	.wait = fault_wait,
	.resize = filter_resize,
	.reopen = filter_reopen,
	.extend = filter_extend,
	.close = fault_close,
};

int blk_fault_new(struct blk_node *child, struct blk_node **out)
{
	struct faults *fs = calloc(1, sizeof(*fs));

	if (!fs || filter_init(&fs->n, child, &fault_driver)) {
		free(fs);
		return -ENOMEM;
	}
	list_init(&fs->rules);
	list_init(&fs->late);
	*out = &fs->n;
	return 0;
}

int blk_fault_add(struct blk_node *n, const struct blk_fault *f)
{
	struct fault_rule *rule = calloc(1, sizeof(*rule));

	if (!rule)
		return -ENOMEM;
	rule->f = *f;
	list_add_tail(&container_of(n, struct faults, n)->rules, &rule->in);
	return 0;
}

void blk_fault_clear(struct blk_node *n)
{
	struct faults *fs = container_of(n, struct faults, n);

	list_for_each_safe(p, &fs->rules) {
		list_del(p);
		free(list_entry(p, struct fault_rule, in));
	}
}

unsigned blk_fault_fired(const struct blk_node *n)
{
	return container_of(n, struct faults, n)->fired;
}

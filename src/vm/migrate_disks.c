// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks that go from one process to another: both have them, and one of them at a time
 * has them open, with their locks.  The other one's devices see a node that only says what
 * the disk is like (block/absent.c).
 *
 * Read-only disks are open on both sides all the time, which their locks allow.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/log.h"
#include "block/disk.h"
#include "block/graph.h"
#include "block/protocol.h"
#include "block/secret.h"
#include "storage/disk.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"

#define MARK "user.lodge.migration"
#define MARK_LEN (MIG_ID * 2 + 16)

static struct blk_node *image_of(const struct disk *d) { return *blk_slot_image(d->node); }

/* Its lock held: does it go over? */
static bool is_moved(const struct disk *d)
{
	return blk_is_slot(d->node) && !d->node->i.read_only && d->node->i.size;
}

/* fn for each disk that goes over, its lock held, until one fails. */
static int for_each(struct vm *vm, int (*fn)(struct vm *vm, unsigned i, struct disk *d, struct err *e), struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < VM_MAX_DISKS && !ret; i++) {
		struct disk *d = vm->disk[i];

		if (!d)
			continue;
		disk_lock(d);
		ret = is_moved(d) ? fn(vm, i, d, e) : 0;
		disk_unlock(d);
	}
	return ret;
}

/* ---- may they ---- */

static int check_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	const struct vm_disk *c = &vm->cfg->disk[i];
	const struct blk_node *n = image_of(d);

	if (c->node)
		return err_set(e, -ENOTSUP, "disk '%s' stands on a node with a name (--blockdev), which does not go over: give the disk its file", d->id);
	if (c->snapshot || c->more.temporary || !n->path)
		return err_set(e, -ENOTSUP, "disk '%s' is written to a temporary layer, which the destination cannot have: run the guest on an image "
			       "of its own (lodge img create -b)", d->id);
	for (unsigned k = 0; k < c->n_keys; k++)
		if (strncmp(c->key[k], "file:", 5))
			return err_set(e, -ENOTSUP, "the key of disk %u came on a descriptor and is not kept: start the guest with key-file=", i);
	return 0;
}

int mig_disks_check(struct vm *vm, struct err *e) { return for_each(vm, check_one, e); }

static int unclaim_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	if (vm->disk_claimed[i])
		blk_slot_unclaim(d->node);
	vm->disk_claimed[i] = false;
	return 0;
}

static int claim_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	int ret = blk_slot_claim(d->node, "migration", e);

	vm->disk_claimed[i] = !ret;
	return ret;
}

int mig_disks_claim(struct vm *vm, struct err *e)
{
	int ret = for_each(vm, claim_one, e);

	if (ret)
		mig_disks_unclaim(vm);
	return ret;
}

void mig_disks_unclaim(struct vm *vm) { for_each(vm, unclaim_one, NULL); }

/* ---- closing ---- */

static void put_image(struct disk *d, struct blk_node *image)
{
	blk_slot_hold(d->node);
	blk_close(blk_slot_replace(d->node, image));
	blk_slot_release(d->node);
}

static int close_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	struct blk_node *n = image_of(d), *absent;
	int ret;

	if (blk_is_absent(n))
		return 0;
	blk_slot_hold(d->node);
	ret = blk_flush(n);
	blk_slot_release(d->node);
	if (ret)
		return err_set(e, ret, "disk '%s' cannot be flushed: %s", d->id, strerror(-ret));
	ret = blk_absent_new(n, &absent);
	if (ret)
		return err_set(e, ret, "out of memory");
	put_image(d, absent);
	return 0;
}

int mig_disks_close(struct vm *vm, struct err *e) { return for_each(vm, close_one, e); }

/* ---- opening ---- */

static int open_image(struct vm *vm, unsigned i, const struct blk_node *absent, struct blk_node **out, struct err *e)
{
	const struct vm_disk *c = &vm->cfg->disk[i];
	struct blk_image_opts o = c->open;
	struct blk_secrets *s;
	int ret = blk_secrets_new(&s);

	if (ret)
		return err_set(e, ret, "out of memory");
	ret = vm_disk_secrets(c, s, e);
	o.secrets = s;
	o.keys = c->key;
	o.n_keys = c->n_keys;
	/* A job may have put the disk on another image since it was configured. */
	if (!o.format || !c->path || strcmp(c->path, absent->path))
		o.format = absent->format;
	ret = ret ? ret : blk_open_image(absent->loop, absent->path, &o, out, e);
	blk_secrets_free(s);
	return ret;
}

static int open_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	struct blk_node *absent = image_of(d), *n;
	int ret;

	if (!blk_is_absent(absent))
		return 0;
	ret = open_image(vm, i, absent, &n, e);
	if (ret)
		return ret;
	if (n->i.size != absent->i.size || n->i.read_only) {
		blk_close(n);
		return err_set(e, -ESTALE, "disk '%s' has another size than it had", d->id);
	}
	put_image(d, n);
	vm->disk_opened[i] = true;
	return 0;
}

static int undo_one(struct vm *vm, unsigned i, struct disk *d, struct err *e)
{
	return vm->disk_opened[i] ? close_one(vm, i, d, e) : 0;
}

int mig_disks_open(struct vm *vm, struct err *e)
{
	int ret;

	memset(vm->disk_opened, 0, sizeof(vm->disk_opened));
	ret = for_each(vm, open_one, e);
	if (ret)
		for_each(vm, undo_one, NULL);
	return ret;
}

/* What was opened to be looked at shows what it would offer a writer. */
int mig_disk_wait(struct blk_node *slot, struct err *e)
{
	struct blk_node *absent, *old;
	int ret = blk_absent_new(*blk_slot_image(slot), &absent);

	if (ret)
		return err_set(e, ret, "out of memory");
	absent->i.read_only = false;
	if (!absent->i.encrypted)
		absent->i.can_discard = absent->i.can_zero = true;
	blk_slot_hold(slot);
	old = blk_slot_replace(slot, absent);
	blk_slot_release(slot);
	blk_close(old);
	return 0;
}

/* ---- marks ---- */

static void mark_text(char text[MARK_LEN], const uint8_t id[MIG_ID], enum mig_mark mark)
{
	for (unsigned i = 0; i < MIG_ID; i++)
		snprintf(text + i * 2, 3, "%02x", id[i]);
	strcat(text, mark == MIG_MARK_TAKEN ? " taken" : " offered");
}

/* Files of this host's own: what lies on a server has no such attributes, and no locks. */
static bool can_be_marked(const struct blk_node *n)
{
	struct stat st;

	return n->path && !blk_is_uri(n->path) && !stat(n->path, &st) && S_ISREG(st.st_mode);
}

bool mig_disks_mark(struct vm *vm, const uint8_t id[MIG_ID], enum mig_mark mark)
{
	char text[MARK_LEN];
	unsigned n = 0;
	bool all = true;

	mark_text(text, id, mark);
	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm->disk[i];

		if (!d)
			continue;
		disk_lock(d);
		if (is_moved(d)) {
			n++;
			all &= can_be_marked(image_of(d)) && !(mark == MIG_MARK_NONE ? removexattr(image_of(d)->path, MARK) :
							       setxattr(image_of(d)->path, MARK, text, strlen(text), 0));
		}
		disk_unlock(d);
	}
	return n && all;
}

static enum mig_mark mark_of(const char *path, const uint8_t id[MIG_ID])
{
	char text[MARK_LEN] = "", want[MARK_LEN];
	ssize_t n = getxattr(path, MARK, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	for (enum mig_mark m = MIG_MARK_TAKEN; m > MIG_MARK_NONE; m--) {
		mark_text(want, id, m);
		if (!strcmp(text, want))
			return m;
	}
	return MIG_MARK_NONE;
}

enum mig_mark mig_disks_marked(struct vm *vm, const uint8_t id[MIG_ID])
{
	enum mig_mark most = MIG_MARK_NONE, least = MIG_MARK_TAKEN;

	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm->disk[i];

		if (!d)
			continue;
		disk_lock(d);
		if (is_moved(d)) {
			enum mig_mark m = can_be_marked(image_of(d)) ? mark_of(image_of(d)->path, id) : MIG_MARK_NONE;

			most = MAX(most, m);
			least = MIN(least, m);
		}
		disk_unlock(d);
	}
	return most == MIG_MARK_TAKEN ? most : MIN(least, most);
}

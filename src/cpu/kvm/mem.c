// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory slots: the machine's map shown to the kernel, and the dirty log.
 *
 * A slot's log is fetched as a whole (and cleared by that) and handed to the
 * machine's own flags, where whoever logs or watches pages finds it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "cpu/kvm/priv.h"

static int set_slot(struct kvm_engine *e, unsigned i, bool remove)
{
	const struct mem_range *r = &e->slot[i].r;
	struct kvm_userspace_memory_region s = {
		.slot = i,
		.guest_phys_addr = r->gpa,
		.memory_size = remove ? 0 : r->size,
		.userspace_addr = (uintptr_t)r->host,
		.flags = (r->kind == MEM_ROM ? KVM_MEM_READONLY : 0) |
			 ((e->logging || e->slot[i].watched) && r->kind == MEM_RAM ? KVM_MEM_LOG_DIRTY_PAGES : 0),
	};

	return ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &s) < 0 ? -errno : 0;
}

static int fetch_slot(struct kvm_engine *e, unsigned i);

static int new_slot(struct kvm_engine *e, const struct mem_range *r)
{
	int ret;

	for (unsigned i = 0; i < KVM_MAX_SLOTS; i++) {
		if (e->slot[i].used)
			continue;
		e->slot[i] = (struct kvm_slot){ .used = true, .r = *r, .watched = r->kind == MEM_RAM && mem_watched(r) };
		ret = set_slot(e, i, false);
		e->slot[i].used = ret == 0;
		return ret;
	}
	return -ENOSPC;
}

static void old_slot(struct kvm_engine *e, unsigned i)
{
	set_slot(e, i, true);
	e->slot[i].used = false;
}

static void failed(const struct mem_range *r, int ret)
{
	log_error("kvm: memory %s at 0x%llx (%llu MiB): %s", r->name, (unsigned long long)r->gpa, (unsigned long long)(r->size >> 20), strerror(-ret));
}

/* ---- memory that is plugged and unplugged ---- */

/*
 * A slot can only be removed and made anew, and in between its memory is not there.  What must not see that, since
 * only a part of it goes or comes, is kept out of KVM_RUN.  No vCPU waits for anything in there, so this ends.
 */
static void reshape_begin(struct kvm_engine *e)
{
	atomic_store(&e->reshaping, true);
	for (unsigned i = 0; i < e->n_vcpus; i++) {
		struct kvm_vcpu *k = e->base.m->vcpus[i] ? kvm_vcpu_of(e->base.m->vcpus[i]) : NULL;

		while (k && atomic_load(&k->in_run)) {
			k->v.kick(&k->v);
			usleep(20);
		}
	}
}

static void reshape_end(struct kvm_engine *e) { atomic_store(&e->reshaping, false); }

static bool beside(const struct mem_range *a, const struct mem_range *b)
{
	return a->plugged && b->plugged && a->gpa + a->size == b->gpa && a->fd_offset + a->size == b->fd_offset && !strcmp(a->name, b->name);
}

/* A slot is what the map has as one range. */
static int plug(struct kvm_engine *e, const struct mem_range *piece)
{
	struct mem_range all = *piece;
	int ret = 0;

	reshape_begin(e);
	for (unsigned i = 0; i < KVM_MAX_SLOTS && !ret; i++) {
		struct mem_range s = e->slot[i].r;

		if (!e->slot[i].used || (!beside(&s, &all) && !beside(&all, &s)))
			continue;
		if (e->logging)
			ret = fetch_slot(e, i);
		old_slot(e, i);
		if (s.gpa < all.gpa) {
			s.size += all.size;
			all = s;
		} else {
			all.size += s.size;
		}
	}
	ret = ret ? ret : new_slot(e, &all);
	reshape_end(e);
	return ret;
}

static struct mem_range part_of(const struct mem_range *r, uint64_t gpa, uint64_t end)
{
	struct mem_range p = *r;

	p.gpa = gpa;
	p.size = end - gpa;
	p.host += gpa - r->gpa;
	p.fd_offset += gpa - r->gpa;
	p.flags += (gpa - r->gpa) / PAGE_4K;
	p.version += (gpa - r->gpa) / PAGE_4K;
	return p;
}

static int unplug(struct kvm_engine *e, const struct mem_range *piece)
{
	uint64_t end = piece->gpa + piece->size;
	int ret = 0;

	reshape_begin(e);
	for (unsigned i = 0; i < KVM_MAX_SLOTS && !ret; i++) {
		struct mem_range s = e->slot[i].r, before, behind;

		if (!e->slot[i].used || piece->gpa < s.gpa || end > s.gpa + s.size)
			continue;
		before = part_of(&s, s.gpa, piece->gpa);
		behind = part_of(&s, end, s.gpa + s.size);
		if (e->logging)
			ret = fetch_slot(e, i);
		old_slot(e, i);
		if (!ret && before.size)
			ret = new_slot(e, &before);
		if (!ret && behind.size)
			ret = new_slot(e, &behind);
		break;
	}
	reshape_end(e);
	return ret;
}

static void added(void *opaque, const struct mem_range *r)
{
	struct kvm_engine *e = opaque;
	int ret;

	pthread_mutex_lock(&e->lock);
	ret = r->plugged ? plug(e, r) : new_slot(e, r);
	pthread_mutex_unlock(&e->lock);
	if (ret < 0)
		failed(r, ret);
}

static void removed(void *opaque, const struct mem_range *r)
{
	struct kvm_engine *e = opaque;
	int ret = 0;

	pthread_mutex_lock(&e->lock);
	if (r->plugged)
		ret = unplug(e, r);
	for (unsigned i = 0; i < KVM_MAX_SLOTS && !r->plugged; i++)
		if (e->slot[i].used && e->slot[i].r.gpa == r->gpa)
			old_slot(e, i);
	pthread_mutex_unlock(&e->lock);
	if (ret < 0)
		failed(r, ret);
}

static int dirty_sync(void *opaque);

/* Watched pages: the slot's log is turned on with them, and what it says goes to the flags. */
static void watch_sync(void *opaque)
{
	struct kvm_engine *e = opaque;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	for (unsigned i = 0; i < KVM_MAX_SLOTS && r == 0; i++) {
		struct kvm_slot *s = &e->slot[i];

		if (!s->used || s->r.kind != MEM_RAM || (!s->watched && !mem_watched(&s->r)))
			continue;
		if (s->watched == mem_watched(&s->r)) {
			r = fetch_slot(e, i);
		} else {
			s->watched = !s->watched;
			r = set_slot(e, i, false);
		}
	}
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		log_error("kvm: the log of the frame buffer: %s", strerror(-r));
}

void kvm_mem_init(struct kvm_engine *e)
{
	e->base.m->watch_sync = watch_sync;
	e->base.m->dirty_sync = dirty_sync;
	e->base.m->watch_opaque = e;
	e->mem.added = added;
	e->mem.removed = removed;
	e->mem.opaque = e;
	mem_listen(e->base.m->mem, &e->mem);
}

void kvm_mem_fini(struct kvm_engine *e)
{
	e->base.m->watch_sync = NULL;
	e->base.m->dirty_sync = NULL;
	if (e->mem.opaque)
		mem_unlisten(e->base.m->mem, &e->mem);
}

/* Turns the kernel's log on or off, as the machine's is. */
static int follow_log(struct kvm_engine *e)
{
	bool want = mem_dirty_enabled(e->base.m->mem);
	int r = 0;

	if (want == e->logging)
		return 0;
	e->logging = want;
	for (unsigned i = 0; i < KVM_MAX_SLOTS && r == 0; i++)
		if (e->slot[i].used && e->slot[i].r.kind == MEM_RAM)
			r = set_slot(e, i, false);
	return r;
}

static int fetch_slot(struct kvm_engine *e, unsigned i)
{
	const struct mem_range *s = &e->slot[i].r;
	uint64_t pages = s->size >> PAGE_SHIFT_4K, words = (pages + 63) / 64;
	uint64_t *log = calloc(words, sizeof(*log));
	struct kvm_dirty_log d = { .slot = i, .dirty_bitmap = log };
	int r = 0;

	if (!log)
		return -ENOMEM;
	if (ioctl(e->vm, KVM_GET_DIRTY_LOG, &d) < 0)
		r = errno == ENOENT ? 0 : -errno;
	for (uint64_t w = 0; r == 0 && w < words; w++)
		for (uint64_t bits = log[w]; bits; bits &= bits - 1)
			mem_written(e->base.m->mem, s->gpa + (w * 64 + (uint64_t)__builtin_ctzll(bits)) * PAGE_4K, 1);
	free(log);
	return r;
}

/* machine->dirty_sync */
static int dirty_sync(void *opaque)
{
	struct kvm_engine *e = opaque;
	int r;

	pthread_mutex_lock(&e->lock);
	r = follow_log(e);
	for (unsigned i = 0; i < KVM_MAX_SLOTS && r == 0 && e->logging; i++)
		if (e->slot[i].used && e->slot[i].r.kind == MEM_RAM)
			r = fetch_slot(e, i);
	pthread_mutex_unlock(&e->lock);
	return r;
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What identifies a file to the client: 64 bits that no other file of the share has.
 *
 * Inode numbers are unique on one file system, and there may be several below the
 * folder.  A number's upper 16 bits, together with the file system, are given a
 * prefix in the order in which they are met; the first, 0, is the folder's own.  So
 * numbers are the host's where there is one file system of fewer than 2^48 files.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "p9/internal.h"

#define LOW_BITS 48
#define MAX_PREFIXES 65536u

struct prefix {
	struct p9_link link;
	uint64_t dev;
	uint16_t high, prefix;
};

static uint64_t hash_of(uint64_t dev, uint16_t high)
{
	return p9_hash(dev * 65537 + high);
}

/* `lock` held, or nobody else is there yet. */
static struct prefix *find_in(const struct p9_table *t, uint64_t dev, uint16_t high)
{
	uint64_t hash = hash_of(dev, high);

	for (struct p9_link *l = p9_table_first(t, hash); l; l = l->next) {
		struct prefix *p = container_of(l, struct prefix, link);

		if (p->dev == dev && p->high == high)
			return p;
	}
	return NULL;
}

static struct prefix *add(struct p9 *s, uint64_t dev, uint16_t high)
{
	struct prefix *p = s->prefixes.n < MAX_PREFIXES ? calloc(1, sizeof(*p)) : NULL;

	if (!p)
		return NULL;
	p->dev = dev;
	p->high = high;
	p->prefix = (uint16_t)s->prefixes.n;
	p9_table_add(&s->prefixes, &p->link, hash_of(dev, high));
	return p;
}

int p9_qid_path(struct p9 *s, uint64_t dev, uint64_t ino, uint64_t *path)
{
	struct prefix *p;
	bool tell = false;

	if (s->o.multidevs != P9_DEVS_REMAP) {
		*path = ino;
		if (dev == s->root->dev)
			return 0;
		pthread_mutex_lock(&s->lock);
		tell = !s->told_devs;
		s->told_devs = true;
		pthread_mutex_unlock(&s->lock);
		if (tell)
			log_warn("shared folder %s: there is more than one file system in it, so inode numbers may collide%s; multidevs=remap "
				 "tells them apart", s->name, s->o.multidevs == P9_DEVS_FORBID ? ", and the others are not shown" : "");
		return s->o.multidevs == P9_DEVS_FORBID ? -ENODEV : 0;
	}
	pthread_mutex_lock(&s->lock);
	p = find_in(&s->prefixes, dev, (uint16_t)(ino >> LOW_BITS));
	if (!p)
		p = add(s, dev, (uint16_t)(ino >> LOW_BITS));
	pthread_mutex_unlock(&s->lock);
	if (!p)
		return -ENFILE;
	*path = (uint64_t)p->prefix << LOW_BITS | (ino & (BIT64(LOW_BITS) - 1));
	return 0;
}

int p9_qid(struct p9 *s, const struct p9_stat *st, struct p9_qid *q)
{
	q->type = S_ISDIR(st->mode) ? P9_QTDIR : S_ISLNK(st->mode) ? P9_QTSYMLINK : P9_QTFILE;
	q->version = (uint32_t)st->mtime.tv_sec ^ (uint32_t)(st->size << 8);
	return p9_qid_path(s, st->dev, st->ino, &q->path);
}

int p9_qids_init(struct p9 *s, const struct p9_stat *root)
{
	int ret = p9_table_init(&s->prefixes);

	return ret ? ret : add(s, root->dev, (uint16_t)(root->ino >> LOW_BITS)) ? 0 : -ENOMEM;
}

static void clear(struct p9_table *t)
{
	for (size_t i = 0; i < t->size; i++)
		while (t->bucket[i]) {
			struct prefix *p = container_of(t->bucket[i], struct prefix, link);

			t->bucket[i] = p->link.next;
			free(p);
		}
	p9_table_fini(t);
}

void p9_qids_fini(struct p9 *s)
{
	clear(&s->prefixes);
}

void p9_qids_save(const struct p9 *s, void (*put)(struct buf *b, unsigned len, uint64_t v), struct buf *b)
{
	put(b, 8, s->root->dev);
	put(b, 4, s->prefixes.n);
	for (size_t i = 0; i < s->prefixes.size; i++)
		for (struct p9_link *l = s->prefixes.bucket[i]; l; l = l->next) {
			const struct prefix *p = container_of(l, struct prefix, link);

			put(b, 8, p->dev);
			put(b, 2, p->high);
			put(b, 2, p->prefix);
		}
}

/* Nobody else is at the table yet but for prefixes that the paths of loaded fids have brought, which give way. */
int p9_qids_load(struct p9 *s, struct p9_in *in)
{
	bool same = p9_get64(in) == s->root->dev;
	uint32_t n = p9_get32(in);
	uint8_t *used = n <= MAX_PREFIXES ? calloc(1, MAX_PREFIXES / 8) : NULL;
	struct p9_table t;
	int ret = used && !p9_table_init(&t) ? 0 : -EINVAL;

	if (ret) {
		free(used);
		return ret;
	}
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < n && !ret; i++) {
		struct prefix *p = calloc(1, sizeof(*p));
		uint64_t dev = p9_get64(in);
		uint16_t high = p9_get16(in), prefix = p9_get16(in);

		/* Each pair once, each prefix once, and all of them from 0 on. */
		ret = in->err || !p || prefix >= n || used[prefix / 8] & BIT(prefix % 8) || find_in(&t, dev, high) ? -EINVAL : 0;
		if (ret) {
			free(p);
			break;
		}
		used[prefix / 8] |= (uint8_t)BIT(prefix % 8);
		*p = (struct prefix){ .dev = dev, .high = high, .prefix = prefix };
		p9_table_add(&t, &p->link, hash_of(dev, high));
	}
	if (!ret && same && n) {
		struct p9_table old = s->prefixes;

		s->prefixes = t;
		t = old;
	}
	pthread_mutex_unlock(&s->lock);
	clear(&t);
	free(used);
	return ret;
}

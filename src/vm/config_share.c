// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of folders that are shared with the guest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "virtio/p9.h"
#include "virtio/vhost_fs.h"
#include "vm/config_int.h"

static const char *const model_words[] = { "none", "passthrough", "mapped-xattr", "mapped-file", NULL };	/* as enum p9_model */
static const char *const devs_words[] = { "remap", "warn", "forbid", NULL };				/* as enum p9_multidevs */
static const char *const writeout_words[] = { "none", "immediate", NULL };

/* Permissions, in octal as everybody has them. */
static int set_mode(const char *val, mode_t *out, struct err *e)
{
	char *end;
	unsigned long n = strtoul(val, &end, 8);

	*out = (mode_t)n;
	return end != val && !*end && n && n <= 0777 ? 0 : err_set(e, -EINVAL, "'%.40s' is not a file's permissions, such as 0644", val);
}

static int set_model(const char *val, enum p9_model *out, struct err *e)
{
	/* QEMU's older name */
	int w = P9_MAPPED_XATTR, ret = strcmp(val, "mapped") ? config_word(val, model_words, &w, e) : 0;

	*out = (enum p9_model)w;
	return ret;
}

int config_share(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_share *s;
	int w = 0, ret;

	if (n >= VM_MAX_SHARES)
		return err_set(e, -E2BIG, "a guest has at most %d shared folders", VM_MAX_SHARES);
	s = &v->share[n];
	v->n_shares = MAX(v->n_shares, n + 1);
	if (!strcmp(field, "path"))
		return config_text(val, &s->path, e);
	if (!strcmp(field, "virtiofs"))
		return config_text(val, &s->peer.path, e);
	if (!strcmp(field, "tag"))
		return config_text(val, &s->tag, e);
	if (!strcmp(field, "readonly"))
		return config_bool(val, &s->opts.readonly, e);
	if (!strcmp(field, "security-model"))
		return set_model(val, &s->opts.model, e);
	if (!strcmp(field, "multidevs")) {
		ret = config_word(val, devs_words, &w, e);
		s->opts.multidevs = (enum p9_multidevs)w;
		return ret;
	}
	if (!strcmp(field, "writeout")) {
		ret = config_word(val, writeout_words, &w, e);
		s->opts.writeout = w;
		return ret;
	}
	if (!strcmp(field, "fmode") || !strcmp(field, "dmode"))
		return set_mode(val, *field == 'f' ? &s->opts.fmode : &s->opts.dmode, e);
	return config_peer(&s->peer, field, val, e);
}

/* What goes with virtiofs, and what does not. */
static int check_virtiofs(const struct vm_share *s, struct err *e)
{
	const struct vm_peer *p = &s->peer;

	if (s->path && p->path)
		return err_set(e, -EINVAL, "--share %s: virtiofs=SOCKET is somebody else's folder, so there is no other", s->path);
	if (!p->path)
		return p->server || p->reconnect || p->queues || p->queue_size ?
			err_set(e, -EINVAL, "--share %s: server=, reconnect=, num-queues= and queue-size= are for virtiofs", s->path) : 0;
	if (s->opts.model != P9_NONE || s->opts.readonly || s->opts.multidevs != P9_DEVS_REMAP || s->opts.writeout)
		return err_set(e, -EINVAL, "--share: readonly, security-model=, multidevs= and writeout= are 9p's, not virtiofs'");
	return strlen(s->tag) <= VHOST_FS_TAG_MAX ? 0 :
		err_set(e, -EINVAL, "--share: '%.60s': the tag of a virtiofs share has at most %d bytes", s->tag, VHOST_FS_TAG_MAX);
}

int config_check_shares(struct vm_config *v, struct err *e)
{
	static const char *const names[] = { "share0", "share1", "share2", "share3", "share4", "share5", "share6", "share7" };

	_Static_assert(ARRAY_LEN(names) == VM_MAX_SHARES, "one for each");
	for (unsigned i = 0; i < v->n_shares; i++) {
		struct vm_share *s = &v->share[i];

		if (!s->path && !s->peer.path)
			return err_set(e, -EINVAL, "--share: share.%u.path is missing", i);
		if (!s->tag)
			s->tag = names[i];
		if (strlen(s->tag) > VIRTIO_P9_TAG_MAX)
			return err_set(e, -EINVAL, "--share %s: its tag has more than %d characters", s->path, VIRTIO_P9_TAG_MAX);
		if (check_virtiofs(s, e))
			return -EINVAL;
		if ((s->opts.fmode || s->opts.dmode) && s->opts.model != P9_MAPPED_XATTR && s->opts.model != P9_MAPPED_FILE)
			return err_set(e, -EINVAL, "--share %s: fmode= and dmode= are for security-model=mapped-xattr and mapped-file", s->path);
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(v->share[k].tag, s->tag))
				return err_set(e, -EINVAL, "--share: two folders have the tag '%.60s'", s->tag);
	}
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a disk image of any format, with everything it stands on: protocol
 * node (file, block device or server: protocol.h), format node, backing files.
 *
 * Images are not trusted.  A file that the image, not the user, names (backing
 * file, external data file) is opened only as far as `trust` goes.  Without a
 * format the image is probed; what is then taken for raw may be read and written,
 * but its first sector may not be given the looks of another format, since the
 * next probe would believe it and open files the guest chose.
 */
#ifndef LODGE_BLOCK_IMAGE_H
#define LODGE_BLOCK_IMAGE_H

#include "block/blk.h"

enum blk_trust {
	BLK_TRUST_FOLDER,	/* files in the folder of the image that names them, or below */
	BLK_TRUST_NONE,		/* none: an image that needs another file is refused */
	BLK_TRUST_ALL,		/* whatever the image names */
};

struct blk_image_opts {
	struct blk_open_opts file;	/* for every file of the image; open_ended is chosen here */
	/* "raw", "qcow2", "luks"; read-only "vmdk", "vdi", "vhdx", "vpc"; NULL: probe (LUKS only where there is a key, or no_key) */
	const char *format;
	enum blk_trust trust;
	bool no_backing;		/* leave the backing file closed: what is not in the image reads as zeros;
					 * for looking at an image, always with file.read_only */
	unsigned backing_writable;	/* open the n-th backing file (1: the first), and no other, for writing too (commit) */
	bool repair;			/* for a check that repairs: an image marked as damaged or not closed may be opened for
					 * writing, and is left as it is */
	struct blk_node *data_file;	/* in place of the data file that a qcow2 image names; taken over if opening succeeds. NULL: that */
	uint64_t cache_bytes;		/* bound of the metadata caches of one layer, 0: 32 MiB */
	/* Encrypted layers.  keys[i] is the id of the secret for the layer i files down (0: the image itself), NULL for none; the
	 * last one is also for all below.  Where a key is given, something must be encrypted. The secrets are used while opening only. */
	struct blk_secrets *secrets;	/* see block/secret.h; NULL: none */
	const char *const *keys;
	unsigned n_keys;
	bool no_key;			/* open encrypted layers without their contents, which then cannot be read or written (EACCES);
					 * for looking at an image, always with file.read_only */
	bool luks_by_looks;		/* probe for LUKS also where no key is given, which then is an error that says so */
	bool discard;			/* LUKS: give discarded space back to the host, which shows where there is data */
};

/* The secret for the layer at a depth, or NULL. */
const char *blk_image_key(const struct blk_image_opts *o, unsigned depth);

/* A node of the image's contents.  `path` is a path or a URI (protocol.h).  The message says what to do. */
int blk_open_image(struct loop *l, const char *path, const struct blk_image_opts *o, struct blk_node **out,
		   struct err *e);

/* The format that the first bytes (512 suffice) look like: "qcow2", "vmdk", ... or "raw". Not all can be opened. */
const char *blk_probe(const uint8_t *first, size_t len);

/* A filter over `file`, which it then owns, that lets no write give the first sector the looks of
 * another format: such a request fails with EPERM. */
int blk_raw_guarded(struct blk_node *file, struct blk_node **out);

/* The raw format over `file`, which it then owns: `size` bytes (0: all) from `offset` on. EINVAL: it has not got them. ENOMEM */
int blk_window_new(struct blk_node *file, uint64_t offset, uint64_t size, struct blk_node **out, struct err *e);
bool blk_is_window(const struct blk_node *n);

/* The file that image `base` names as its backing file, if `trust` lets it be opened. malloc'ed in *out.
 * ENOENT, EACCES (the message says how to consent), ENOTSUP (not a file), ENOMEM */
int blk_named_path(const char *base, const char *name, enum blk_trust trust, char **out, struct err *e);

/* Resolves what image `base` calls `name`: absolute, or relative to the folder of base. malloc'ed. NULL: no memory */
char *blk_relative_path(const char *base, const char *name);

#endif

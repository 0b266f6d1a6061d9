/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS volumes, version 1 and 2, as the on-disk format specifications of
 * cryptsetup describe them, and the same encryption inside qcow2 images.
 *
 * AES in XTS or CBC mode; keys derived with PBKDF2 or Argon2; LUKS2 volumes of
 * one segment, without integrity protection.
 */
#ifndef LODGE_BLOCK_LUKS_LUKS_H
#define LODGE_BLOCK_LUKS_LUKS_H

#include "block/image.h"

/* What a header may ask for; 0: the default. A header with more is refused: whoever made it could make us work for hours. */
struct luks_limits {
	uint64_t pbkdf2;		/* rounds of one key; default 2^26 */
	uint64_t argon2_kib;		/* memory; default 1 GiB */
	uint64_t argon2_work;		/* memory (KiB) times passes; default 64 GiB */
};

enum { LUKS_SLOTS_SHOWN = 32 };
struct luks_info {
	unsigned version;		/* 1, 2 */
	char uuid[41], label[49], subsystem[49];
	char cipher[64];		/* "aes-xts-plain64" */
	char hash[16];			/* of the digest that proves the key */
	unsigned key_bits, sector_size;
	uint64_t payload;		/* bytes from the header's beginning */
	uint64_t size;			/* of the payload, 0: up to the end of the file */
	uint32_t digest_iterations;
	uint64_t seqid;			/* LUKS2 */
	bool second_header;		/* LUKS2: the first was damaged or older, this is the second */
	bool allow_discards;		/* LUKS2: a persistent flag */
	unsigned n_slots;
	struct luks_slot_info {
		bool active;
		char kdf[12];		/* "pbkdf2", "argon2id", ... */
		uint32_t iterations;	/* rounds, or passes */
		uint32_t memory, lanes;	/* Argon2: KiB, threads */
		uint64_t offset;	/* of the key material, bytes from the header's beginning */
		unsigned stripes;
	} slot[LUKS_SLOTS_SHOWN];
};

/* Zero means the default throughout. */
struct luks_create_opts {
	uint64_t size;			/* bytes of contents, a multiple of sector_size; luks_create only */
	unsigned version;		/* 1 (default), 2 */
	const char *cipher;		/* "aes-xts-plain64" (default), "aes-cbc-essiv:sha256", ... */
	unsigned key_bits;		/* default 512 with XTS, 256 with CBC */
	const char *hash;		/* of the digest, of the split and of PBKDF2; default sha256 */
	unsigned sector_size;		/* LUKS2: 512 (default) to 4096 */
	const char *kdf;		/* LUKS2: "argon2id" (default), "argon2i", "pbkdf2" */
	unsigned iter_ms;		/* what opening is to cost on this machine; default 2000 */
	uint32_t force_iterations;	/* instead of measuring; Argon2: passes */
	uint32_t memory;		/* Argon2: KiB, at most; default 1 GiB or half of the memory there is */
	uint32_t lanes;			/* Argon2: threads; default up to 4 */
	const char *label;		/* LUKS2 */
};

/* Writes a volume to an open-ended node: header, key, and length. Contents are not written and read as
 * noise. The passphrase opens slot 0. */
int luks_create(struct blk_node *file, const struct luks_create_opts *o, const uint8_t *pass, size_t len, struct err *e);
/* Are the options (but size) possible? EINVAL */
int luks_create_check(const struct luks_create_opts *o, struct err *e);
/* Bytes that the header takes before the contents; 0: the options are not possible (luks_create says why). */
uint64_t luks_header_size(const struct luks_create_opts *o);

/* Takes `file` over if it succeeds.  The key is that of o for the depth, unless o->no_key.
 * EACCES: wrong passphrase, or none given. */
int luks_open(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
	      struct err *e);
/* The same with limits of one's own; NULL: default. For tests. */
int luks_open_limited(struct blk_node *file, const struct blk_image_opts *o, unsigned depth,
		      const struct luks_limits *limits, struct blk_node **out, struct err *e);
/* n->format is "luks". Lives as long as the node. */
const struct luks_info *luks_get_info(struct blk_node *n);

/* ---- for formats that encrypt their data: the header lies in [off, off + len) of `head` ---- */

/* The header, described without a key. */
int luks_inspect(struct blk_node *head, uint64_t off, uint64_t len, const char *name, struct luks_info *out,
		 struct err *e);
/* A filter over `data`, which stays the caller's: byte X is encrypted there as sector X / 512. key: as luks_open's */
int luks_inner_open(struct blk_node *head, uint64_t off, uint64_t len, struct blk_node *data, const char *name,
		    const struct blk_image_opts *o, unsigned depth, struct blk_node **out, struct err *e);
/* Header and key into [off, off + luks_header_size(o)) of `head`; version 1 only. */
int luks_inner_create(struct blk_node *head, uint64_t off, const struct luks_create_opts *o, const uint8_t *pass,
		      size_t len, struct err *e);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the LUKS driver.
 *
 *   crypto.c   hashes, key derivation, anti-forensic split     cipher.c  sectors
 *   spec.c     names of ciphers and hashes                     bench.c   how much work a key is to cost
 *   luks1.c    headers of version 1                            luks2.c, json.c  of version 2
 *   open.c     from header and passphrase to a key             create.c  new volumes
 *   node.c     requests
 *
 * A header is hostile.  Both versions are parsed into struct luks_head, and every
 * number is checked there: places lie inside the header's area, keys are of a size
 * their cipher has, work and memory are within struct luks_limits.
 */
#ifndef LODGE_BLOCK_LUKS_INTERNAL_H
#define LODGE_BLOCK_LUKS_INTERNAL_H

#include <openssl/evp.h>

#include "base/bits.h"
#include "block/luks/luks.h"

#define LUKS_SECTOR 512u		/* unit of IVs and of key material, whatever the volume's sectors are */
#define LUKS_STRIPES 4000u		/* the only number that either version's tools accept */
#define LUKS_MAX_KEY 64u
#define LUKS_MAX_SALT 64u
#define LUKS_MAX_DIGEST 64u
#define LUKS1_SLOTS 8u
#define LUKS2_SLOTS 32u

static inline uint16_t luks_be16(const void *p) { return __builtin_bswap16(ld_le16(p)); }
static inline uint32_t luks_be32(const void *p) { return __builtin_bswap32(ld_le32(p)); }
static inline uint64_t luks_be64(const void *p) { return __builtin_bswap64(ld_le64(p)); }
static inline void luks_put16(void *p, uint16_t v) { st_le16(p, __builtin_bswap16(v)); }
static inline void luks_put32(void *p, uint32_t v) { st_le32(p, __builtin_bswap32(v)); }
static inline void luks_put64(void *p, uint64_t v) { st_le64(p, __builtin_bswap64(v)); }

/* ---- spec.c ---- */
enum luks_mode { LUKS_XTS, LUKS_CBC };
enum luks_iv { LUKS_PLAIN, LUKS_PLAIN64, LUKS_ESSIV };
/* A cipher as headers name it: "aes" and "xts-plain64", or both with a dash. */
struct luks_spec {
	enum luks_mode mode;
	enum luks_iv iv;
	const EVP_MD *essiv_hash;	/* ESSIV only */
	char text[64];
};
/* NULL: not one that is known here. */
const EVP_MD *luks_hash(const char *name);
const char *luks_hash_name(const EVP_MD *md);
/* ENOTSUP: not known here */
int luks_spec_parse(const char *cipher, const char *mode, struct luks_spec *out);
bool luks_key_size_ok(const struct luks_spec *s, size_t key_len);

/* ---- cipher.c ---- */
struct luks_cipher;
/* The key is needed here only. lanes: how many threads may work at a time. ENOMEM, EINVAL (a key the
 * cipher refuses) */
int luks_cipher_new(const struct luks_spec *s, const uint8_t *key, size_t key_len, unsigned sector, unsigned lanes,
		    struct luks_cipher **out);
void luks_cipher_free(struct luks_cipher *c);
/* len: a multiple of the sector size. iv: number of the first 512-byte sector. In place. [any thread] */
int luks_cipher_run(struct luks_cipher *c, bool encrypt, uint64_t iv, uint8_t *buf, size_t len);

/* ---- crypto.c ---- */
enum luks_kdf_kind { LUKS_PBKDF2, LUKS_ARGON2I, LUKS_ARGON2ID };
struct luks_kdf {
	enum luks_kdf_kind kind;
	const EVP_MD *hash;		/* PBKDF2 */
	uint32_t iterations;		/* PBKDF2: rounds; Argon2: passes */
	uint32_t memory, lanes;		/* Argon2: KiB; threads */
	uint8_t salt[LUKS_MAX_SALT];
	uint32_t salt_len;
};
int luks_derive(const struct luks_kdf *k, const uint8_t *pass, size_t len, uint8_t *out, size_t out_len);
/* Anti-forensic information: key_len * stripes bytes from and to a key. EIO: no random numbers */
int luks_af_split(const uint8_t *key, size_t key_len, unsigned stripes, const EVP_MD *md, uint8_t *out);
int luks_af_merge(const uint8_t *in, size_t key_len, unsigned stripes, const EVP_MD *md, uint8_t *key);
int luks_random(void *out, size_t len);
/* Random, version 4, as text of 36 characters and a NUL. */
int luks_uuid(char *out);

/* ---- what a header says ---- */
struct luks_slot {
	bool active, tried;
	int priority;			/* 0: not to be tried, 1, 2: first */
	struct luks_kdf kdf;
	struct luks_spec area_spec;
	uint32_t area_key;		/* bytes of the key that encrypts the area */
	const EVP_MD *af_hash;
	uint64_t offset, size;		/* of the key material, from the header's beginning */
};
struct luks_head {
	struct luks_info i;
	struct luks_spec spec;
	uint64_t iv_tweak;		/* added to sector numbers */
	struct luks_slot slot[LUKS2_SLOTS];
	unsigned n_slots;
	/* Proves the volume key. */
	struct luks_kdf digest_kdf;
	uint8_t digest[LUKS_MAX_DIGEST];
	uint32_t digest_len;
};

/* Where a header lies, and how messages call the image. */
struct luks_place {
	struct blk_node *file;
	uint64_t off, len;		/* the area of the header: nothing outside it is looked at */
	const char *name;
	struct luks_limits limits;
	bool loose;			/* only to be described: what cannot be opened is no error */
};
/* Both: EINVAL, ENOTSUP, EIO, ENOMEM with a message. */
int luks1_read(const struct luks_place *at, const uint8_t *first, struct luks_head *h, struct err *e);
int luks2_read(const struct luks_place *at, struct luks_head *h, struct err *e);
/* json.c: `text` is the area of the JSON metadata. hdr_size: of one copy of the header */
int luks2_parse_json(const struct luks_place *at, const char *text, size_t len, uint64_t hdr_size, struct luks_head *h,
		     struct err *e);
/* Is the work a key costs within the limits? */
int luks_check_kdf(const struct luks_place *at, const struct luks_kdf *k, struct err *e);
/* A text field of the header: out has room + 1 bytes. What could steer a terminal becomes '?'. */
void luks_text(const void *from, size_t room, char *out);
int luks_bad(const struct luks_place *at, struct err *e, const char *what);
/* The area of key material, decrypted or encrypted in place with a derived key. */
int luks_area_crypt(const struct luks_slot *s, const uint8_t *key, bool encrypt, uint8_t *area, size_t len);

/* ---- open.c ---- */
/* Finds the header and tries the passphrase. key: of LUKS_MAX_KEY bytes. EACCES: it opens nothing */
int luks_read(const struct luks_place *at, struct luks_head *h, struct err *e);
int luks_unlock(const struct luks_place *at, struct luks_head *h, const uint8_t *pass, size_t len, uint8_t *key,
		struct err *e);

/* ---- luks2.c ---- */
#define LUKS2_BIN 4096u			/* the binary part of a header */
/* Fills in the checksum of a header of LUKS2_BIN bytes and the JSON area behind it. */
int luks2_checksum(uint8_t *head, size_t len);

/* ---- bench.c ---- */
/* Sets iterations (Argon2: memory and lanes too) so that deriving takes about so long here. Takes less than half a
 * second. */
int luks_bench(struct luks_kdf *k, unsigned ms, size_t key_len);

/* ---- node.c ---- */
struct luks_node_opts {
	uint64_t payload, size;		/* bytes */
	uint64_t iv_tweak;
	unsigned sector;
	bool can_discard, borrowed;	/* borrowed: the file is not closed with the node, and any offset is allowed */
	const struct luks_info *info;	/* copied */
};
/* Takes the cipher (NULL: contents cannot be reached) over, and the file unless it is borrowed, if it succeeds. */
int luks_node_new(struct blk_node *file, struct luks_cipher *c, const struct luks_node_opts *o, struct blk_node **out);

#endif

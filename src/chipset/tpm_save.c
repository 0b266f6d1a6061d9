// SPDX-License-Identifier: GPL-2.0-or-later
/* A TPM's own state in the machine's: three blobs that only the TPM can read. */
#include "chipset/tpm_save.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"

int tpm_save_blobs(struct tpm *t, struct snap_out *o, const char *id)
{
	struct tpm_state s;
	struct err e = { "" };
	uint8_t flags[4 * TPM_BLOBS];
	int ret = tpm_get_state(t, &s, TPM_SAVE_MS, &e);

	if (ret) {
		log_error("%s", e.msg);
		return ret;
	}
	for (unsigned i = 0; i < TPM_BLOBS; i++)
		st_le32(flags + 4 * i, s.flags[i]);
	ret = snap_put_blob(o, id, flags, sizeof(flags));
	for (unsigned i = 0; i < TPM_BLOBS && !ret; i++)
		ret = snap_put_blob(o, "blob", s.blob[i], s.len[i]);
	tpm_state_free(&s);
	return ret;
}

static int load_blob(struct snap_in *in, struct tpm_state *s, unsigned i, struct err *e)
{
	s->blob[i] = malloc(TPM_BLOB_MAX);
	if (!s->blob[i])
		return err_set(e, -ENOMEM, "out of memory");
	return snap_get_blob(in, "blob", s->blob[i], TPM_BLOB_MAX, &s->len[i], e);
}

int tpm_load_blobs(struct tpm *t, struct snap_in *in, const char *id, struct err *e)
{
	struct tpm_state s = { 0 };
	uint8_t flags[4 * TPM_BLOBS];
	uint32_t len;
	int ret = snap_get_blob(in, id, flags, sizeof(flags), &len, e);

	if (!ret && len != sizeof(flags))
		ret = err_set(e, -EINVAL, "saved state of %s is damaged", id);
	for (unsigned i = 0; i < TPM_BLOBS && !ret; i++) {
		s.flags[i] = ld_le32(flags + 4 * i);
		ret = load_blob(in, &s, i, e);
	}
	if (!ret)
		ret = tpm_set_state(t, &s, TPM_SAVE_MS, e);
	tpm_state_free(&s);
	return ret;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD server, before transmission: fixed newstyle negotiation (doc/proto.md, "Newstyle negotiation"). */
#include <stdlib.h>

#include "block/nbd_server_int.h"

#define NBD_MAGIC 0x4e42444d41474943u		/* "NBDMAGIC" */
#define NBD_OPT_MAGIC 0x49484156454f5054u	/* "IHAVEOPT" */
#define NBD_REP_MAGIC 0x3e889045565a9u
#define OPT_HEAD 16
#define REQUEST_HEAD 28
#define MAX_QUERIES 64
static const char allocation[] = "base:allocation";

void nbds_hello(struct nbd_client *c)
{
	uint8_t hello[18];

	nbd_put64(hello, NBD_MAGIC);
	nbd_put64(hello + 8, NBD_OPT_MAGIC);
	nbd_put16(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	nbds_expect(c, NBD_STEP_FLAGS, NULL, 4);
	nbds_send_copy(c, hello, sizeof(hello), false);
}

void nbds_flags(struct nbd_client *c)
{
	uint32_t flags = nbd_get32(c->head);

	if (!(flags & NBD_FLAG_FIXED_NEWSTYLE) || flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
		nbds_drop(c);
		return;
	}
	c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	nbds_expect(c, NBD_STEP_OPTION, NULL, OPT_HEAD);
}

static void reply(struct nbd_client *c, uint32_t type, const void *data, size_t len)
{
	uint8_t *out = malloc(20 + len);

	if (!out) {
		nbds_drop(c);
		return;
	}
	nbd_put64(out, NBD_REP_MAGIC);
	nbd_put32(out + 8, c->option);
	nbd_put32(out + 12, type);
	nbd_put32(out + 16, (uint32_t)len);
	if (len)
		memcpy(out + 20, data, len);
	nbds_send(c, out, 0, 20 + len, false, 0);
}

static uint16_t export_flags(const struct nbd_client *c, const struct nbd_export *x)
{
	uint16_t flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN;

	if (c->structured)
		flags |= NBD_SEND_DF;
	if (x->read_only || x->n->i.read_only)
		return flags | NBD_READ_ONLY;
	return flags | NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES;
}

static void begin_transmission(struct nbd_client *c, struct nbd_export *x)
{
	c->x = x;
	loop_timer_cancel(&c->deadline);
	nbds_expect(c, NBD_STEP_REQUEST, NULL, REQUEST_HEAD);
}

/* The old way, which has no error reply. */
static void opt_export_name(struct nbd_client *c, const uint8_t *data, uint32_t len)
{
	struct nbd_export *x = nbds_find(c->s, data, len);
	uint8_t out[8 + 2 + 124] = { 0 };

	if (!x) {
		nbds_drop(c);
		return;
	}
	nbd_put64(out, x->n->i.size);
	nbd_put16(out + 8, export_flags(c, x));
	begin_transmission(c, x);
	nbds_send_copy(c, out, c->no_zeroes ? 10 : sizeof(out), false);
}

static void opt_list(struct nbd_client *c, uint32_t len)
{
	if (len) {
		reply(c, NBD_REP_ERR_INVALID, NULL, 0);
		return;
	}
	list_for_each(p, &c->s->exports) {
		struct nbd_export *x = list_entry(p, struct nbd_export, in);
		size_t name = strlen(x->name), more = x->description ? strlen(x->description) : 0;
		uint8_t *out = malloc(4 + name + more);

		if (!out) {
			nbds_drop(c);
			return;
		}
		nbd_put32(out, (uint32_t)name);
		memcpy(out + 4, x->name, name);
		if (more)
			memcpy(out + 4 + name, x->description, more);
		reply(c, NBD_REP_SERVER, out, 4 + name + more);
		free(out);
	}
	reply(c, NBD_REP_ACK, NULL, 0);
}

static void info_text(struct nbd_client *c, uint16_t type, const char *text)
{
	size_t len = strlen(text);
	uint8_t *out = malloc(2 + len);

	if (!out) {
		nbds_drop(c);
		return;
	}
	nbd_put16(out, type);
	memcpy(out + 2, text, len);
	reply(c, NBD_REP_INFO, out, 2 + len);
	free(out);
}

static void send_infos(struct nbd_client *c, struct nbd_export *x, const uint8_t *wanted, unsigned n)
{
	uint8_t export[12], sizes[14];
	bool told[4] = { false };

	for (unsigned i = 0; i < n; i++) {
		uint16_t what = nbd_get16(wanted + 2 * i);

		/* What a client asks for twice it gets once. */
		if (what >= ARRAY_LEN(told) || told[what])
			continue;
		told[what] = true;
		if (what == NBD_INFO_NAME)
			info_text(c, what, x->name);
		if (what == NBD_INFO_DESCRIPTION && x->description)
			info_text(c, what, x->description);
	}
	nbd_put16(sizes, NBD_INFO_BLOCK_SIZE);
	nbd_put32(sizes + 2, BLK_SECTOR);
	nbd_put32(sizes + 6, MAX(x->n->i.physical_block, 4096u));
	nbd_put32(sizes + 10, NBD_SERVER_BYTES);
	reply(c, NBD_REP_INFO, sizes, sizeof(sizes));
	nbd_put16(export, NBD_INFO_EXPORT);
	nbd_put64(export + 2, x->n->i.size);
	nbd_put16(export + 10, export_flags(c, x));
	reply(c, NBD_REP_INFO, export, sizeof(export));
}

static void opt_info(struct nbd_client *c, const uint8_t *data, uint32_t len)
{
	uint32_t name = len >= 6 ? nbd_get32(data) : 0;
	struct nbd_export *x;

	if (len < 6 || name > len - 6 || len - 6 - name != 2u * nbd_get16(data + 4 + name)) {
		reply(c, NBD_REP_ERR_INVALID, NULL, 0);
		return;
	}
	x = nbds_find(c->s, data + 4, name);
	if (!x) {
		reply(c, NBD_REP_ERR_UNKNOWN, NULL, 0);
		return;
	}
	send_infos(c, x, data + 6 + name, nbd_get16(data + 4 + name));
	if (c->option == NBD_OPT_GO)
		begin_transmission(c, x);
	reply(c, NBD_REP_ACK, NULL, 0);
}

static bool query_fits(const uint8_t *q, uint32_t len, bool list)
{
	size_t all = sizeof(allocation) - 1;

	return (len == all && !memcmp(q, allocation, all)) || (list && len == 5 && !memcmp(q, "base:", 5));
}

/* The queries are well formed: 0 none asks for our context, 1 one does; -1: not. */
static int read_queries(const uint8_t *p, uint32_t left, bool list)
{
	uint32_t n = left >= 4 ? nbd_get32(p) : 0;
	int wanted = list && n == 0;

	if (left < 4 || n > MAX_QUERIES)
		return -1;
	p += 4;
	left -= 4;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = left >= 4 ? nbd_get32(p) : 0;

		if (left < 4 || len > left - 4)
			return -1;
		wanted |= query_fits(p + 4, len, list);
		p += 4 + len;
		left -= 4 + len;
	}
	return left ? -1 : wanted;
}

static void opt_meta(struct nbd_client *c, const uint8_t *data, uint32_t len)
{
	bool list = c->option == NBD_OPT_LIST_META;
	uint32_t name = len >= 4 ? nbd_get32(data) : 0;
	uint8_t context[4 + sizeof(allocation) - 1] = { 0, 0, 0, 0 };
	int wanted = len >= 4 && name <= len - 4 ? read_queries(data + 4 + name, len - 4 - name, list) : -1;

	if (!list)
		c->contexts = false;
	if (wanted < 0 || (!list && !c->structured)) {
		reply(c, NBD_REP_ERR_INVALID, NULL, 0);
		return;
	}
	if (!nbds_find(c->s, data + 4, name)) {
		reply(c, NBD_REP_ERR_UNKNOWN, NULL, 0);
		return;
	}
	if (wanted) {
		if (!list)
			c->contexts = true;
		memcpy(context + 4, allocation, sizeof(allocation) - 1);
		reply(c, NBD_REP_META_CONTEXT, context, sizeof(context));
	}
	reply(c, NBD_REP_ACK, NULL, 0);
}

static void opt_structured(struct nbd_client *c, uint32_t len)
{
	if (len || c->structured) {
		reply(c, NBD_REP_ERR_INVALID, NULL, 0);
		return;
	}
	c->structured = true;
	reply(c, NBD_REP_ACK, NULL, 0);
}

static void option(struct nbd_client *c, const uint8_t *data, uint32_t len)
{
	switch (c->option) {
	case NBD_OPT_EXPORT_NAME:
		opt_export_name(c, data, len);
		break;
	case NBD_OPT_ABORT:
		reply(c, NBD_REP_ACK, NULL, 0);
		nbds_expect(c, NBD_STEP_END, NULL, 0);
		break;
	case NBD_OPT_LIST:
		opt_list(c, len);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		opt_info(c, data, len);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		opt_structured(c, len);
		break;
	case NBD_OPT_LIST_META:
	case NBD_OPT_SET_META:
		opt_meta(c, data, len);
		break;
	default:
		reply(c, NBD_REP_ERR_UNSUP, NULL, 0);
		break;
	}
}

void nbds_option_head(struct nbd_client *c)
{
	uint32_t len = nbd_get32(c->head + 12);
	uint8_t *buf;

	c->option = nbd_get32(c->head + 8);
	if (nbd_get64(c->head) != NBD_OPT_MAGIC || len > NBD_MAX_SKIP) {
		nbds_drop(c);
		return;
	}
	if (len > NBD_MAX_OPTION) {
		reply(c, NBD_REP_ERR_TOO_BIG, NULL, 0);
		nbds_expect(c, NBD_STEP_SKIP, NULL, len);
		return;
	}
	if (!len) {
		nbds_expect(c, NBD_STEP_OPTION, NULL, OPT_HEAD);
		option(c, c->head, 0);
		return;
	}
	buf = malloc(len);
	if (!buf)
		nbds_drop(c);
	else
		nbds_expect(c, NBD_STEP_OPTION_DATA, buf, len);
}

void nbds_option_data(struct nbd_client *c)
{
	uint8_t *data = c->in_buf;
	uint32_t len = (uint32_t)c->need;

	nbds_expect(c, NBD_STEP_OPTION, NULL, OPT_HEAD);
	option(c, data, len);
	free(data);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a name to a protocol node.  What begins like a URI is one; a scheme that
 * is not known is an error and never taken for a path, so that a slip does not
 * open some file.
 */
#include "block/protocol.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"

static const struct {
	const char *scheme;
	int (*open)(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image,
		    struct blk_node **out, struct err *e);
} protocols[] = {
	{ "nbd", nbd_node_open },
	{ "nbds", nbd_node_open },
	{ "nbd+unix", nbd_node_open },
	{ "nbds+unix", nbd_node_open },
	{ "http", http_node_open },
	{ "https", http_node_open },
	{ "null-co", null_node_open },
};

static size_t scheme_len(const char *name)
{
	size_t n = 0;

	while (isalnum((unsigned char)name[n]) || (n && strchr("+-.", name[n]) && name[n]))
		n++;
	return n && !strncmp(name + n, "://", 3) ? n : 0;
}

bool blk_is_uri(const char *name)
{
	return scheme_len(name) != 0;
}

int blk_open_protocol(struct loop *l, const char *name, const struct blk_open_opts *o, bool by_image,
		      struct blk_node **out, struct err *e)
{
	size_t len = scheme_len(name);

	if (!strncmp(name, "file:", 5) && !by_image)
		return blk_open_file(l, name + 5, o, out, e);
	if (!len)
		return blk_open_file(l, name, o, out, e);
	for (unsigned i = 0; i < ARRAY_LEN(protocols); i++)
		if (strlen(protocols[i].scheme) == len && !strncasecmp(name, protocols[i].scheme, len))
			return protocols[i].open(l, name, o, by_image, out, e);
	return err_set(e, -ENOTSUP,
		       "disk '%s': '%.*s://' is not known here: nbd://, nbds://, nbd+unix://, nbds+unix://, http://, https:// "
		       "and null-co:// are; for a file of that name write './%s'", name, (int)len, name, name);
}

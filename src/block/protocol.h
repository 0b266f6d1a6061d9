/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image may be stored in: a file or block device, or what a URI names.
 *
 *	PATH, file:PATH			a file or block device (file.c)
 *	nbd://HOST[:PORT]/EXPORT	an NBD server; nbds:// with TLS, nbd+unix:///EXPORT?socket=PATH
 *					and nbds+unix:// over a local socket (nbd.c)
 *	http://..., https://...		a file on a web server, to be read (http.c)
 *	null-co://[SIZE]		nothing: reads zeros, forgets writes (null.c)
 */
#ifndef LODGE_BLOCK_PROTOCOL_H
#define LODGE_BLOCK_PROTOCOL_H

#include "block/blk.h"

/* A word, then "://": not a path, unless the user says so with ./ or file: in front. */
bool blk_is_uri(const char *name);

/* Opens what `name` says.  by_image: an image names it, not the user, so that it may name no local
 * files besides (keys in a URI). */
int blk_open_protocol(struct loop *l, const char *name, const struct blk_open_opts *o, bool by_image,
		      struct blk_node **out, struct err *e);

/* One for each kind; ENOTSUP if Lodge was built without the library. */
int nbd_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
	     struct err *e);
int http_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
		   struct err *e);
int null_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
	      struct err *e);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands for http.c in a build without libcurl. */
#include <errno.h>

#include "block/protocol.h"

int http_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
		   struct err *e)
{
	return err_set(e, -ENOTSUP, "a disk on a web server: this lodge was built without HTTP: install libcurl4-openssl-dev and build it again");
}

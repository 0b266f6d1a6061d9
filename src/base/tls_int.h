/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between tls.c and tls_creds.c. */
#ifndef LODGE_BASE_TLS_INT_H
#define LODGE_BASE_TLS_INT_H

#include <openssl/ssl.h>

#include "base/tls.h"

struct tls_key {
	char *name;
	unsigned char key[64];
	unsigned len;
};

struct tls_creds {
	SSL_CTX *ctx;
	_Atomic unsigned refs;
	bool server, verify;
	struct tls_key *keys;		/* pre-shared; a client has the one it says */
	unsigned n_keys;
};

#endif

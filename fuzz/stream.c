/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client sends to a chardev or monitor with layers: WebSocket requests and frames, and TLS records before anybody is let in.
 *
 * Input: a byte of layers (bit 0 a WebSocket, bit 1 TLS with a pre-shared key), then pieces, each with a byte of length: what comes at once,
 * cut as the network may.  Nobody gets through TLS.  Through WebSockets no more comes than was sent, and what is sent back is read all the
 * time or (bit 2) never.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/stream.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_creds *make_creds(void)
{
	const struct tls_files f = { .server = true, .verify = true, .psk = "/dev/shm/lodge-fuzz.psk" };
	struct tls_creds *c = NULL;
	FILE *to = fopen(f.psk, "w");
	struct err e;

	fprintf(to, "qemu:00112233445566778899aabbccddeeff\n");
	fclose(to);
	if (tls_creds_new(&f, &c, &e))
		abort();
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tls_creds *creds;
	struct fuzz_input in = { .p = data, .left = size };
	unsigned how = (unsigned)input_take(&in, 1);
	struct stream_opts o = { .websocket = how & 1 || !(how & 2) };
	size_t sent = 0, came = 0;
	struct stream *s;
	uint8_t buf[512];
	bool begun = false;
	struct err e;
	int fd[2], r;

	creds = creds ? creds : make_creds();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd))
		abort();
	o.fd = fd[0];
	o.tls = how & 2 ? creds : NULL;
	if (stream_new(&o, &s))
		abort();
	do {
		size_t n = input_bytes(&in, buf, 1 + input_take(&in, 1));
		ssize_t got;

		sent += n;
		if (n && send(fd[1], buf, n, MSG_NOSIGNAL) != (ssize_t)n)
			break;
		if (!in.left)
			shutdown(fd[1], SHUT_WR);
		r = begun ? 0 : stream_begin(s, &e);
		if (r && r != -EAGAIN)
			break;
		if (!r && o.tls)
			abort();
		begun = !r;
		while (begun && (got = stream_recv(s, buf, sizeof(buf))) > 0) {
			came += (size_t)got;
			stream_send(s, buf, (size_t)got);
		}
		if (begun)
			stream_flush(s);
		stream_watch(s, true, false);
		while (!(how & 4) && read(fd[1], buf, sizeof(buf)) > 0)
			;
	} while (in.left);
	if (came > sent)
		abort();
	stream_free(s);
	close(fd[0]);
	close(fd[1]);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: a connection by TLS stands only between those who are who they have to be - a certificate of the CA's, the
 * host's name, the one client that may come - and whatever else comes ends in an error that says what it is.
 */
#include "../unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/tls.h"
#include "vm/tls.h"

#define TURNS 100

static char dir[64];

/* Two CAs; of the first one a server "one.example", a client and one that has been revoked. */
static const char script[] =
	"set -e; exec 2>/dev/null\n"
	"ca() { mkdir -p $1; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1/ca-key.pem -out $1/ca-cert.pem -days 2 -subj /CN=$1; }\n"
	"sign() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $2/$3-key.pem -out r.pem -subj \"$4\"; printf '%s\\n' \"$5\" >ext\n"
	"openssl x509 -req -in r.pem -CA $1/ca-cert.pem -CAkey $1/ca-key.pem -set_serial $6 -days 2 -extfile ext -out $2/$3-cert.pem; }\n"
	"ca good; ca bad; mkdir out none; cp good/ca-cert.pem out; cp good/ca-cert.pem none\n"
	"sign good good server '/O=Org/CN=one' 'subjectAltName=DNS:one.example,IP:10.0.0.1' 1\n"
	"sign good good client '/O=Org/CN=Some, one' 'extendedKeyUsage=clientAuth' 2\n"
	"sign bad bad server '/O=Org/CN=one' 'subjectAltName=DNS:one.example' 3\n"
	"sign bad bad client '/O=Org/CN=two' 'extendedKeyUsage=clientAuth' 4\n"
	"cp bad/client-*.pem bad/server-*.pem out\n"
	"touch none/server-cert.pem none/server-key.pem\n";

static int make_files(void **state)
{
	char command[4096];

	snprintf(dir, sizeof(dir), "/tmp/lodge-tls-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "cd %s\n%s", dir, script);
	return system(command);
}

static int drop_files(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static struct tls_creds *creds(const char *name, bool server, bool verify)
{
	struct tls_files f = { .server = server, .verify = verify };
	char path[3][128];
	struct tls_creds *c = NULL;
	struct err e = { "" };

	snprintf(path[0], sizeof(path[0]), "%s/%s/%s-cert.pem", dir, name, server ? "server" : "client");
	snprintf(path[1], sizeof(path[1]), "%s/%s/%s-key.pem", dir, name, server ? "server" : "client");
	snprintf(path[2], sizeof(path[2]), "%s/%s/ca-cert.pem", dir, name);
	f.cert = access(path[0], F_OK) ? NULL : path[0];
	f.key = path[1];
	f.ca = path[2];
	if (tls_creds_new(&f, &c, &e))
		fail_msg("%s", e.msg);
	return c;
}

/* As far as both go; what became of each is in ret and e. A client of TLS 1.3 hears at its first read that it is not wanted. */
static void meet(struct tls *c[2], int ret[2])
{
	char byte = 'x';

	ret[0] = ret[1] = -EAGAIN;
	for (unsigned i = 0; i < TURNS; i++)
		for (unsigned k = 0; k < 2; k++)
			if (ret[k] == -EAGAIN)
				ret[k] = tls_handshake(c[k]);
	if (!ret[0] && !ret[1]) {
		assert_int_equal(tls_write(c[1], "hello", 5), 5);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(tls_read(c[0], &byte, 1), 1);
		assert_int_equal(byte, 'o');
		assert_int_equal(tls_read(c[0], &byte, 1), -EAGAIN);
		assert_false(tls_wants_write(c[0]));
	}
}

static void try(struct tls_creds *client, struct tls_creds *server, const char *host, const char *authz, int want_client, int want_server, const char *text)
{
	const struct tls_guard guard = { vm_tls_allows, (void *)(uintptr_t)authz };
	struct tls *c[2];
	int s[2], ret[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	assert_int_equal(tls_new(client, s[0], host, NULL, &c[0]), 0);
	assert_int_equal(tls_new(server, s[1], NULL, authz ? &guard : NULL, &c[1]), 0);
	meet(c, ret);
	assert_int_equal(ret[0], want_client);
	assert_int_equal(ret[1], want_server);
	if (text && !strstr(tls_why(c[0]), text) && !strstr(tls_why(c[1]), text))
		fail_msg("'%s' and '%s' have no '%s'", tls_why(c[0]), tls_why(c[1]), text);
	tls_free(c[1]);
	/* One that goes says so. */
	if (!ret[0] && !ret[1])
		assert_int_equal(tls_read(c[0], &byte, 1), 0);
	tls_free(c[0]);
	close(s[0]);
	close(s[1]);
	tls_creds_unref(client);
	tls_creds_unref(server);
}

#define CLIENT(name) creds(name, false, true)
#define SERVER(name) creds(name, true, true)

static void friends_meet(void **state)
{
	try(CLIENT("good"), SERVER("good"), "one.example", NULL, 0, 0, NULL);
	try(CLIENT("good"), SERVER("good"), "10.0.0.1", NULL, 0, 0, NULL);
	/* The client's name, from either end. */
	try(CLIENT("good"), SERVER("good"), "one.example", "CN=Some\\, one,O=Org", 0, 0, NULL);
	try(CLIENT("good"), SERVER("good"), "one.example", "O=Org, CN=Some\\, one", 0, 0, NULL);
	/* Who is not looked at needs no certificate. */
	try(creds("none", false, true), creds("good", true, false), "one.example", NULL, 0, 0, NULL);
	try(creds("good", false, false), creds("bad", true, false), NULL, NULL, 0, 0, NULL);
}

static void strangers_do_not(void **state)
{
	try(CLIENT("good"), SERVER("good"), "two.example", NULL, -EPROTO, -EPROTO, "mismatch");
	try(CLIENT("good"), SERVER("good"), "10.0.0.2", NULL, -EPROTO, -EPROTO, "mismatch");
	try(CLIENT("good"), SERVER("bad"), "one.example", NULL, -EPROTO, -EPROTO, "self-signed certificate");
	/* The client's handshake is over before the server has looked at its certificate. */
	try(CLIENT("out"), SERVER("good"), "one.example", NULL, 0, -EPROTO, "certificate");
	try(CLIENT("none"), SERVER("good"), "one.example", NULL, 0, -EPROTO, "has no certificate");
	try(CLIENT("good"), SERVER("good"), "one.example", "CN=Some\\, one", 0, -EACCES, "not among those allowed");
	try(CLIENT("good"), SERVER("good"), "one.example", "CN=Some,CN= one,O=Org", 0, -EACCES, "not among those allowed");
}

static void other_things_come(void **state)
{
	static const char *const said[] = { "LDGM\1\0\0\0\0\0\0\0 and so on and on and on", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\xff\xff\x01\xff\xff\xff", "" };

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 2; k++) {
			struct tls_creds *x = creds("good", k, true);
			struct tls *c;
			int s[2], ret = -EAGAIN;

			assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
			assert_int_equal(tls_new(x, s[0], k ? NULL : "one.example", NULL, &c), 0);
			assert_true(write(s[1], said[i], i == 2 ? 9 : strlen(said[i])) >= 0);
			shutdown(s[1], SHUT_WR);
			for (unsigned turn = 0; turn < TURNS && ret == -EAGAIN; turn++)
				ret = tls_handshake(c);
			assert_int_equal(ret, -EPROTO);
			assert_true(*tls_why(c));
			tls_free(c);
			tls_creds_unref(x);
			close(s[0]);
			close(s[1]);
		}
	}
}

static void files_are_named(void **state)
{
	struct tls_creds *c = NULL;
	struct err e = { "" };
	char path[128];

	assert_int_equal(vm_tls_dir("/nonexistent", true, &c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/server-cert.pem: No such file or directory"));
	snprintf(path, sizeof(path), "%s/none", dir);
	assert_int_equal(vm_tls_dir(path, true, &c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "none/server-cert.pem: not a certificate"));
	unlink(strcat(path, "/ca-cert.pem"));
	*strrchr(path, '/') = '\0';
	assert_int_equal(vm_tls_dir(path, false, &c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "none/ca-cert.pem: No such file or directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(friends_meet), cmocka_unit_test(strangers_do_not), cmocka_unit_test(other_things_come), cmocka_unit_test(files_are_named),
	};

	if (system("openssl version >/dev/null 2>&1")) {
		puts("skipped: there is no openssl to make certificates with");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_files, drop_files);
}

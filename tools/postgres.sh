# Sourced by test.sh: a PostgreSQL server of our own, with fsync on, that nobody else can use.
#
# start_postgres sets LAZARET_TEST_POSTGRES. The server lives in a temporary directory of mode 0700, listens on a free port of
# 127.0.0.1 (tests put breaking lines before it, so a Unix socket would not do), knows one user with a random password, and
# ends with this shell: by stop_postgres, or when the shell dies (parent death signal). initdb refuses root, so root runs it
# as user postgres.

postgres_dir='' postgres_pid=''

start_postgres() {
	local bin as=() end=(setpriv --pdeathsig=INT --) preload=() password port
	bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
	[ -n "$bin" ] || bin=$(dirname "$(command -v initdb || echo /nowhere/initdb)")
	[ -x "$bin/initdb" ] || { echo "test: no PostgreSQL here: make prepare, or install postgresql-15" >&2; return 1; }
	postgres_dir=$(mktemp -d "${TMPDIR:-/tmp}/lazaret-pg.XXXXXX")
	password=$(od -An -N18 -tx1 /dev/urandom | tr -d ' \n')
	(umask 077 && printf '%s\n' "$password" >"$postgres_dir/password")
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres: "$postgres_dir"
		as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
		end=(setpriv --reuid=postgres --regid=postgres --init-groups --pdeathsig=INT --)
	fi
	[ -e "$("$bin/pg_config" --pkglibdir 2>/dev/null)/pgaudit.so" ] && preload=(-c shared_preload_libraries=pgaudit)
	( # in a directory that initdb may read
		cd "$postgres_dir" && "${as[@]}" "$bin/initdb" -D "$postgres_dir/data" -U postgres -E UTF8 --no-locale \
			--auth=scram-sha-256 --pwfile="$postgres_dir/password" >"$postgres_dir/initdb.log" 2>&1
	) || { cat "$postgres_dir/initdb.log" >&2; return 1; }
	rm "$postgres_dir/password"

	for _ in 1 2 3 4 5; do # a port that somebody else has taken ends the server at once: try the next
		port=$((20000 + RANDOM % 12000))
		(
			cd "$postgres_dir"
			exec "${end[@]}" "$bin/postgres" -D "$postgres_dir/data" -c listen_addresses=127.0.0.1 -c port="$port" \
				-c unix_socket_directories= -c fsync=on -c synchronous_commit=on -c full_page_writes=on \
				-c max_connections=200 "${preload[@]}"
		) >"$postgres_dir/server.log" 2>&1 &
		postgres_pid=$!
		for _ in $(seq 300); do
			kill -0 "$postgres_pid" 2>/dev/null || break
			if grep -q 'ready to accept connections' "$postgres_dir/server.log"; then
				export LAZARET_TEST_POSTGRES="postgres://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable"
				return 0
			fi
			sleep 0.1
		done
		kill -INT "$postgres_pid" 2>/dev/null
	done
	echo "test: PostgreSQL did not start:" >&2
	tail -n 20 "$postgres_dir/server.log" >&2
	return 1
}

stop_postgres() {
	[ -z "$postgres_pid" ] || { kill -INT "$postgres_pid" 2>/dev/null && wait "$postgres_pid" 2>/dev/null; } || true
	[ -z "$postgres_dir" ] || rm -rf "$postgres_dir"
	unset LAZARET_TEST_POSTGRES
	postgres_dir='' postgres_pid=''
}

# Sourced by test.sh: a PostgreSQL server of our own, with fsync on, that nobody but its user and root can reach.
#
# start_postgres sets LAZARET_TEST_POSTGRES. The server lives in a temporary directory of mode 0700, listens on a Unix
# socket in it and nowhere else, and ends with this shell: by stop_postgres, or when the shell dies (parent death signal).
# initdb refuses root, so root runs it as user postgres.

postgres_dir='' postgres_pid=''

start_postgres() {
	local bin as=() waited=0
	bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
	[ -n "$bin" ] || bin=$(dirname "$(command -v initdb || echo /nowhere/initdb)")
	[ -x "$bin/initdb" ] || { echo "test: no PostgreSQL here: make prepare, or install postgresql-15" >&2; return 1; }
	postgres_dir=$(mktemp -d "${TMPDIR:-/tmp}/lazaret-pg.XXXXXX")
	if [ "$(id -u)" = 0 ]; then
		chown postgres: "$postgres_dir"
		as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
	fi
	local preload=()
	[ -e "$("$bin/pg_config" --pkglibdir 2>/dev/null)/pgaudit.so" ] && preload=(-c shared_preload_libraries=pgaudit)
	(
		cd "$postgres_dir" # initdb may not be able to read where we are
		"${as[@]}" "$bin/initdb" -D "$postgres_dir/data" -U postgres --auth=trust -E UTF8 --no-locale >"$postgres_dir/initdb.log" 2>&1
	) || { cat "$postgres_dir/initdb.log" >&2; return 1; }
	local pdeath=(setpriv --pdeathsig=INT --)
	[ ${#as[@]} -eq 0 ] || pdeath=("${as[@]:0:${#as[@]}-1}" --pdeathsig=INT --)
	(
		cd "$postgres_dir"
		exec "${pdeath[@]}" "$bin/postgres" -D "$postgres_dir/data" -c listen_addresses= \
			-c unix_socket_directories="$postgres_dir" -c unix_socket_permissions=0700 -c port=5432 \
			-c fsync=on -c synchronous_commit=on -c full_page_writes=on -c max_connections=200 "${preload[@]}"
	) >"$postgres_dir/server.log" 2>&1 &
	postgres_pid=$!
	until (cd / && "${as[@]}" "$bin/pg_isready" -q -h "$postgres_dir" -U postgres); do
		if ! kill -0 "$postgres_pid" 2>/dev/null || [ $((waited += 1)) -gt 300 ]; then
			echo "test: PostgreSQL did not start:" >&2
			tail -n 20 "$postgres_dir/server.log" >&2
			return 1
		fi
		sleep 0.1
	done
	export LAZARET_TEST_POSTGRES="postgres://postgres@/postgres?host=$postgres_dir"
}

stop_postgres() {
	[ -z "$postgres_pid" ] || { kill -INT "$postgres_pid" 2>/dev/null && wait "$postgres_pid" 2>/dev/null; } || true
	[ -z "$postgres_dir" ] || rm -rf "$postgres_dir"
	unset LAZARET_TEST_POSTGRES
	postgres_dir='' postgres_pid=''
}

package seal

// FaultyDirStore is DirStore with a step of its writing made to fail.
func FaultyDirStore(path string, step func(what string) error) (Store, error) {
	d, err := openDirStore(path)
	if err != nil {
		return nil, err
	}
	d.step = step
	return d, nil
}

package engine

// SmallBuckets makes the index sort its tokens into a bucket as soon as there are so many of them.
func (c *Config) SmallBuckets(tokens int) { c.bucketSize = tokens }

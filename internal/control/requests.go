package control

import (
	"context"
	"net/url"

	"github.com/lazaret-health/lazaret/internal/engine"
)

// Channels tells what each channel does now.
func (c *Client) Channels(ctx context.Context) (list []engine.ChannelStatus, err error) {
	return list, c.do(ctx, "GET", "/v1/channels", "", nil, &list)
}

// StartChannel lets a channel listen and deliver again.
func (c *Client) StartChannel(ctx context.Context, channel string) error {
	return c.do(ctx, "POST", "/v1/channels/"+url.PathEscape(channel)+"/start", "", nil, nil)
}

// StopChannel ends a channel's connections and deliveries.
func (c *Client) StopChannel(ctx context.Context, channel string) error {
	return c.do(ctx, "POST", "/v1/channels/"+url.PathEscape(channel)+"/stop", "", nil, nil)
}

// PauseDestination ends deliveries to one destination.
func (c *Client) PauseDestination(ctx context.Context, channel, destination string) error {
	return c.do(ctx, "POST", destinationPath(channel, destination)+"/pause", "", nil, nil)
}

// ResumeDestination lets a paused or held destination deliver again.
func (c *Client) ResumeDestination(ctx context.Context, channel, destination string) error {
	return c.do(ctx, "POST", destinationPath(channel, destination)+"/resume", "", nil, nil)
}

func destinationPath(channel, destination string) string {
	return "/v1/channels/" + url.PathEscape(channel) + "/destinations/" + url.PathEscape(destination)
}

// List finds messages, newest first. purpose goes on record where a patient is looked for.
func (c *Client) List(ctx context.Context, purpose string, q Search) (page engine.Page, err error) {
	return page, c.do(ctx, "POST", "/v1/messages/search", purpose, q, &page)
}

// Show returns a message's content; the reading is on record.
func (c *Client) Show(ctx context.Context, purpose, id string) (d engine.Detail, err error) {
	return d, c.do(ctx, "POST", "/v1/messages/"+url.PathEscape(id)+"/show", purpose, nil, &d)
}

// Trace returns a message's way.
func (c *Client) Trace(ctx context.Context, id string) (t engine.Trace, err error) {
	return t, c.do(ctx, "POST", "/v1/messages/"+url.PathEscape(id)+"/trace", "", nil, &t)
}

// Resend queues a message again for the named destinations, or for all.
func (c *Client) Resend(ctx context.Context, id string, destinations []string) (list []engine.Delivery, err error) {
	return list, c.do(ctx, "POST", "/v1/messages/"+url.PathEscape(id)+"/resend", "", Resend{destinations}, &list)
}

// Metrics returns the service's metrics in Prometheus' text form.
func (c *Client) Metrics(ctx context.Context) (text string, err error) {
	return text, c.do(ctx, "GET", "/metrics", "", nil, &text)
}

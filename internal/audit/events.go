package audit

// An Event is what happened: audit_log.event_type. Values never change, for they are hashed and searched for. They bear DICOM's
// word where one fits exactly; [Event.DICOM] gives the code of DICOM PS3.16 (context groups 400 and 401) that each is filed under.
type Event string

// Events. The number behind each is its DICOM code.
const (
	ServiceStarted        Event = "application-start"          // 110120
	ServiceStopped        Event = "application-stop"           // 110121
	ConfigLoaded          Event = "software-configuration"     // 110131; details: revision, digest before and after
	KeyCreated            Event = "key-created"                // 110129, Security Configuration
	RootKeyChanged        Event = "root-key-changed"           // 110129; details: root, how many data keys were wrapped anew
	KeysRenewed           Event = "data-keys-renewed"          // 110129; details: which keys seal no more
	RecordsResealed       Event = "records-sealed-anew"        // 110129; details: how many
	KeysShredding         Event = "data-keys-shredding"        // 110129; from here on there is no way back
	KeysShredded          Event = "data-keys-shredded"         // 110129; the certificate: purpose, period, keys
	RecoveryCopied        Event = "recovery-copy-made"         // 110129; the root key was handed out in parts, or sealed to somebody
	RecoveryConfirmed     Event = "recovery-copy-confirmed"    // 110129; a copy was tried, and gave the root key
	RootKeyChecked        Event = "root-key-checked"           // 110129; it was asked to wrap and unwrap
	RootKeyAway           Event = "root-key-away"              // 110113, Security Alert
	RootKeyBack           Event = "root-key-back"              // 110113
	ClockStepped          Event = "clock-stepped"              // 110113, Security Alert; details: by how much
	AuditFailed           Event = "audit-failed"               // 110113, Security Alert; the record itself is in doubt
	AuditLogUsed          Event = "audit-log-used"             // 110101; somebody searched or verified the record
	MessageAccepted       Event = "message-accepted"           // 110107, Import
	MessageFiltered       Event = "message-filtered"           // 110107; answered AA and not delivered
	MessageRejected       Event = "message-rejected"           // 110107; details: why
	MessageDuplicate      Event = "message-duplicate"          // 110107; got the first one's answer again
	MessageResent         Event = "message-resent"             // 110106, Export; by a person
	DeliveryFiltered      Event = "delivery-filtered"          // 110106; a destination's filter dropped it
	DeliverySent          Event = "delivery-sent"              // 110106
	DeliveryRetried       Event = "delivery-retried"           // 110106; an attempt failed, another follows
	DeliveryRefused       Event = "delivery-refused"           // 110106; the receiver said no
	DeliverySkipped       Event = "delivery-skipped"           // 110106; set aside as an error
	DeliveryHeld          Event = "delivery-held"              // 110106; stops its queue
	ContentRead           Event = "patient-record"             // 110110; a person saw content: who, and the purpose why
	Searched              Event = "query"                      // 110112
	ChannelStarted        Event = "channel-started"            // 110100, Application Activity
	ChannelStopped        Event = "channel-stopped"            // 110100
	ChannelPaused         Event = "channel-paused"             // 110100
	ChannelResumed        Event = "channel-resumed"            // 110100
	DestinationStarted    Event = "destination-started"        // 110100
	DestinationStopped    Event = "destination-stopped"        // 110100
	DestinationPaused     Event = "destination-paused"         // 110100
	DestinationResumed    Event = "destination-resumed"        // 110100
	ConnectionRefused     Event = "node-authentication"        // 110126; a peer that is not allowed, or shows no good certificate
	SettingChanged        Event = "setting-changed"            // 110129, Security Configuration; details: before and after, secrets left out
	DisposalBegun         Event = "disposal-begun"             // 110110; from here on there is no way back: details say what goes
	DisposalCertified     Event = "disposal-certificate"       // 110110; it is gone: what, how much, which keys, by which policy
	HoldAdded             Event = "legal-hold-added"           // 110129; reason and patient lie sealed beside it
	HoldReleased          Event = "legal-hold-released"        // 110129
	BackupMade            Event = "backup-made"                // 110106, Export; details: SHA-256, target, the tree's size and root in it
	BackupPruned          Event = "backup-pruned"              // 110132, Use of Restricted Function
	BackupVerified        Event = "backup-verified"            // 110132; details: SHA-256
	BackupDrilled         Event = "backup-drilled"             // 110132; details: SHA-256 of the report, times, what was found
	BackupRestored        Event = "backup-restored"            // 110107, Import; the first entry of the restored log that is not from the backup
	RestrictedFunctionRun Event = "use-of-restricted-function" // 110132; a command of the operator's that is none of the above
)

// DICOM is the code of the event in DICOM's coding scheme DCM, or "" for one that this build does not know.
func (e Event) DICOM() string {
	switch e {
	case ServiceStarted:
		return "110120"
	case ServiceStopped:
		return "110121"
	case ConfigLoaded:
		return "110131"
	case KeyCreated, RootKeyChanged, KeysRenewed, RecordsResealed, KeysShredding, KeysShredded, RecoveryCopied, RecoveryConfirmed, RootKeyChecked,
		SettingChanged, HoldAdded, HoldReleased:
		return "110129"
	case RootKeyAway, RootKeyBack, ClockStepped, AuditFailed:
		return "110113"
	case AuditLogUsed:
		return "110101"
	case MessageAccepted, MessageFiltered, MessageRejected, MessageDuplicate, BackupRestored:
		return "110107"
	case MessageResent, DeliveryFiltered, DeliverySent, DeliveryRetried, DeliveryRefused, DeliverySkipped, DeliveryHeld, BackupMade:
		return "110106"
	case ContentRead, DisposalBegun, DisposalCertified:
		return "110110"
	case Searched:
		return "110112"
	case ChannelStarted, ChannelStopped, ChannelPaused, ChannelResumed,
		DestinationStarted, DestinationStopped, DestinationPaused, DestinationResumed:
		return "110100"
	case ConnectionRefused:
		return "110126"
	case RestrictedFunctionRun, BackupPruned, BackupVerified, BackupDrilled:
		return "110132"
	}
	return ""
}

// An Action is what kind of doing it was: DICOM PS3.15 A.5.1, EventActionCode.
type Action string

// Actions, with DICOM's letters.
const (
	Create  Action = "create"  // C
	Read    Action = "read"    // R
	Update  Action = "update"  // U
	Delete  Action = "delete"  // D
	Execute Action = "execute" // E
)

// A Result is how it ended: DICOM PS3.15 A.5.1, EventOutcomeIndicator.
type Result string

// Results, with DICOM's numbers.
const (
	Success        Result = "success"         // 0
	MinorFailure   Result = "minor-failure"   // 4; may be tried again
	SeriousFailure Result = "serious-failure" // 8; refused, or done only in part
	MajorFailure   Result = "major-failure"   // 12; no longer available
)
